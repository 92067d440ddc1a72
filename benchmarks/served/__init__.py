"""
The specification's program as its page writes it, beside roster: the same two routes, database and answers, served.

Each round asks one after the other, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.served.load import CannotMeasure, Load, ask, ask_often, find_wrk, press
from benchmarks.served.servers import ROSTER, SPECIFICATION, TYPED, USERS, Contender, database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["CannotMeasure", "measure"]

BARS = {"/stats": 2.0, "/users": 1.5}
"""How many times the specification's requests in a second roster has to answer."""
CONTENDERS = (SPECIFICATION, TYPED, ROSTER)
WORKERS = 4
COUNTED = 400
"""Requests that are sent to several workers, to see whether they are counted as one."""

Row = dict[str, Any]
Loads = dict[tuple[str, Contender], list[Load]]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: int


def measure(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """
    Measure both programs, and give a row for each on each work; `ratio` is to the specification's program.

    Args:
        say: Called with what is being done.
        quick: Whether two short rounds are enough.

    Raises:
        CannotMeasure: There is no load generator, a server did not start, or the answers are not the same.
    """
    wrk = find_wrk(say)
    say("served: starting a PostgreSQL, and roster to make 100 users in it")
    with database() as (folder, dsn):
        loads = _press_all(say, wrk, folder, dsn, Effort(2, 2) if quick else Effort(5, 4))
        return [
            *(_speed_row(path, contender, loads) for path, contender in loads),
            *(_count_row(say, contender, folder, dsn) for contender in (SPECIFICATION, ROSTER)),
        ]


def _press_all(say: Callable[[str], None], wrk: str, folder: Path, dsn: str, effort: Effort) -> Loads:
    loads: Loads = {(path, each): [] for path in BARS for each in CONTENDERS}
    with ExitStack() as servers:
        say("served: starting one uvicorn worker of each program")
        urls = {each: servers.enter_context(each.serve(folder, dsn)) for each in CONTENDERS}
        _compare_answers(urls)
        for path, contender in loads:
            press(wrk, urls[contender] + path, 1)  # fills caches and pools
        for number in range(effort.rounds):
            turns = list(loads)
            for path, contender in turns if number % 2 else reversed(turns):
                say(f"served: {path} of {contender.name}, round {number + 1} of {effort.rounds}")
                loads[path, contender].append(press(wrk, urls[contender] + path, effort.seconds))
    return loads


def _compare_answers(urls: dict[Contender, str]) -> None:
    """Hold the answers against one another: a count that has just begun, and the same users in the same order."""
    for path in BARS:
        answers = {each.name: ask(urls[each] + path) for each in CONTENDERS}
        if any(answer != answers[SPECIFICATION.name] for answer in answers.values()):
            message = f"the programs do not answer {path} alike, so they cannot be compared: {answers}"
            raise CannotMeasure(message)
        if path == "/users" and len(answers[SPECIFICATION.name]) != USERS:
            message = f"{path} has {len(answers[SPECIFICATION.name])} users, not {USERS}"
            raise CannotMeasure(message)


def _speed_row(path: str, contender: Contender, loads: Loads) -> Row:
    found = loads[path, contender]
    ratios = sorted(
        ours.requests_per_second / theirs.requests_per_second
        for ours, theirs in zip(found, loads[path, SPECIFICATION], strict=True)
    )
    return {
        "work": path,
        "contender": contender.name,
        "requests_per_second": median(load.requests_per_second for load in found),
        "latency_p50_ms": median(load.latency_p50_ms for load in found),
        "latency_p99_ms": median(load.latency_p99_ms for load in found),
        "ratio": median(ratios),
        "bar": BARS[path] if contender is ROSTER else None,
        "note": f"one uvicorn worker without access log; rounds from {ratios[0]:.2f} to {ratios[-1]:.2f}",
    }


def _count_row(say: Callable[[str], None], contender: Contender, folder: Path, dsn: str) -> Row:
    say(f"served: counting {COUNTED} requests to {WORKERS} workers of {contender.name}")
    with contender.serve(folder, dsn, workers=WORKERS) as url:
        highest = max(answer["total_requests"] for answer in ask_often(f"{url}/stats", COUNTED))
    return {
        "work": f"/stats, counted of what {WORKERS} workers were sent",
        "contender": contender.name,
        "requests_per_second": None,
        "latency_p50_ms": None,
        "latency_p99_ms": None,
        "ratio": highest / COUNTED,
        "bar": 1.0 if contender is ROSTER else None,
        "note": f"after {COUNTED} requests the highest count answered is {highest}",
    }
