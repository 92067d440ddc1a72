"""Where the microseconds go that a request of tenure takes more, or less, than one of the baseline."""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cases import Case
from benchmarks.contenders import BASELINE, TENURE, contenders
from benchmarks.driver import Client, started
from benchmarks.rounds import Effort, measure
from benchmarks.works import FUNCTION, ONE, REQUEST, SHARED

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.works import Work

PROFILED = (ONE, FUNCTION, REQUEST, SHARED)
REQUESTS = 3_000
SHOWN = 8
"""Functions that a table names of those that are added, and half as many of those that are saved."""

LEAST = 0.05
"""Microseconds below which a function is not named."""

NOTHING = (0.0, 0.0)
Function = tuple[str, int, str]


@dataclass
class Difference:
    """
    What a function has more, or less, in a request of tenure.

    Attributes:
        name: Where it is and what it is called.
        calls: Calls, or resumptions, per request.
        microseconds: In the function itself.
    """

    name: str
    calls: float
    microseconds: float


@dataclass
class Profile:
    """
    A work, profiled.

    Attributes:
        work: Which.
        baseline: Microseconds of a request of the baseline, measured without the profiler.
        tenure: The same of tenure.
        ratio: One to the other.
        differences: Function by function, the largest first.
    """

    work: Work
    baseline: float
    tenure: float
    ratio: float
    differences: list[Difference]


async def profiles(rounds: int, advance: Callable[[str], None]) -> list[Profile]:
    """Profile the works in which a request passes through code of tenure's or, without it, of FastAPI's."""
    by_name = {contender.name: contender for contender in contenders(others=False)}
    found = []
    for work in PROFILED:
        cases = [Case(work, by_name[BASELINE]), Case(work, by_name[TENURE])]
        baseline, tenure = await measure(cases, Effort(rounds, seconds=0.0025), lambda: None)
        advance(f"profile: {work.title}")
        more = await profiled(cases[1], tenure.microseconds)
        less = await profiled(cases[0], baseline.microseconds)
        found.append(Profile(work, baseline.microseconds, tenure.microseconds, tenure.ratio, subtract(more, less)))
    return found


async def profiled(case: Case, measured: float) -> dict[str, tuple[float, float]]:
    """
    Give calls and own microseconds per request of every function.

    The profiler makes everything slower: its times are scaled so that their sum is what was measured without it.
    """
    with case.environment():
        app = case.build()
        async with started(app) as state:
            client = Client(app, case.work, state)
            await client.send(200)
            profiler = cProfile.Profile()
            profiler.enable()
            await client.send(REQUESTS)
            profiler.disable()
    stats: dict[Function, tuple[int, int, float, float, object]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    scale = measured / sum(own for _, _, own, _, _ in stats.values())
    found: dict[str, tuple[float, float]] = {}
    for where, (_, calls, own, _, _) in stats.items():
        calls_before, own_before = found.get(name_of(where), NOTHING)
        found[name_of(where)] = (calls_before + calls / REQUESTS, own_before + own * scale)
    return found


def subtract(more: dict[str, tuple[float, float]], less: dict[str, tuple[float, float]]) -> list[Difference]:
    """Give the functions of which the first has more calls, and those of which it has fewer, the largest first."""
    found = []
    for name in more.keys() | less.keys():
        calls, own = more.get(name, NOTHING)
        calls_without, own_without = less.get(name, NOTHING)
        difference = Difference(name, round(calls - calls_without, 1), own - own_without)
        if difference.calls * difference.microseconds > 0 and abs(difference.microseconds) >= LEAST:
            found.append(difference)
    found.sort(key=lambda each: -each.microseconds)
    added = [each for each in found if each.microseconds > 0]
    saved = [each for each in found if each.microseconds < 0]
    return [*added[:SHOWN], *saved[-SHOWN // 2 :]]


def name_of(where: Function) -> str:
    """Say where a function is, from its package on."""
    file, _, function = where
    if file == "~":
        return function.strip("<>")
    parts = Path(file).with_suffix("").parts
    for root in ("site-packages", "src", "main"):
        if root in parts:
            parts = parts[len(parts) - parts[::-1].index(root) :]
            break
    else:
        parts = parts[-1:]
    return f"{'.'.join(parts)}: {function}"
