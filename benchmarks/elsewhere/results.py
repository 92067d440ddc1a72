"""What a run has found, as results.json keeps it, and the bars that it is held to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.models.results import PART, Memory, Speed
from benchmarks.results import Amount, store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.calls.row import Found

AT_LEAST = "at least"
"""What is noted of a bar that is the lowest, and not the highest, that a number may be."""
PLACE = Path(__file__).parent / "results.json"
TENURE = "tenure"
MORE_REQUESTS, PING, EACH_WORKER, LONE = 1.5, 15.0, 45.0, 0.3
"""Times the requests of `def`; milliseconds; megabytes; and milliseconds of a lone caller beyond a direct call's."""


@dataclass(frozen=True)
class Call:
    """
    Round trips of 4 KB to another process.

    Attributes:
        contender: Who made them.
        p50: Microseconds of a lone caller's, the median of the rounds' medians.
        p99: The same of 99 in 100, over all rounds.
        per_second: What 32 callers make in a second, the median of all rounds.
        blocks: Whether the caller's event loop stands still meanwhile.
        note: What is to be known of it.
    """

    contender: str
    p50: float
    p99: float
    per_second: float
    blocks: bool
    note: str


@dataclass
class Results:
    """
    A run.

    Attributes:
        about: The machine, versions, revision and date.
        speed: Programs that serve a model, under load.
        memory: What they take.
        calls: Round trips to an object in another process.
        recovery: How long it takes until a killed one is there again; the first is the whole, the others its steps.
        bars: What tenure is held to.
    """

    about: dict[str, Any]
    speed: list[Speed]
    memory: list[Memory]
    calls: list[Call]
    recovery: list[Amount]
    bars: list[Amount]

    def write(self, place: Path = PLACE) -> None:
        """Write it as JSON."""
        store(self, place)

    @classmethod
    def read(cls, place: Path = PLACE) -> Results:
        """Read what a run has written."""
        content = json.loads(place.read_text())
        return cls(
            about=content["about"],
            speed=[Speed(**row) for row in content["speed"]],
            memory=[Memory(**row) for row in content["memory"]],
            calls=[Call(**row) for row in content["calls"]],
            recovery=[Amount(**row) for row in content["recovery"]],
            bars=[Amount(**row) for row in content["bars"]],
        )


def call_of(found: Found) -> Call:
    """Sum up the rounds of a contender."""
    taken = sorted(seconds for each in found.alone for seconds in each)
    return Call(
        contender=found.name,
        p50=round(median(median(each) for each in found.alone) * 1e6, 1),
        p99=round(taken[int(len(taken) * 0.99)] * 1e6, 1),
        per_second=round(median(found.at_once)),
        blocks=found.blocks,
        note=found.note,
    )


def bars(
    speed: Sequence[Speed], memory: Sequence[Memory], calls: Sequence[Call], recovery: Sequence[Amount]
) -> list[Amount]:
    """Hold what was measured against the bars; of what was not, there is none."""
    return [
        *(_speed_bars(speed) if speed else ()),
        *(_memory_bars(memory) if memory else ()),
        *(_call_bars(calls) if calls else ()),
        *recovery[:1],
    ]


def _speed_bars(speed: Sequence[Speed]) -> list[Amount]:
    most = max(row.callers for row in speed)
    rows: list[Amount] = []
    for row in speed:
        if not row.server.startswith(TENURE):
            continue
        if row.callers == 1:
            title = f"p50 of a lone caller, beyond {PART} times that of a direct call, {row.server}"
            rows.append(Amount("lone", title, TENURE, row.beyond, "ms", bar=LONE))
        elif row.callers == most:
            title = f"requests with {most} callers, {row.server}"
            rows.append(_at_least("more", title, row.ratio, "times those of `def`", MORE_REQUESTS))
            ping = row.ping_p99 if row.ping_p99 is not None else float("inf")
            rows.append(Amount("ping", f"p99 of another route meanwhile, {row.server}", TENURE, ping, "ms", bar=PING))
    return rows


def _memory_bars(memory: Sequence[Memory]) -> list[Amount]:
    first, last = [row for row in memory if "host" in row.server and row.workers > 1]
    each = (last.megabytes - first.megabytes) / (last.workers - first.workers)
    note = f"from {first.workers} to {last.workers}; the second also brings the server's own parent"
    title = "each further worker, `host` scope"
    return [Amount("worker", title, TENURE, round(each, 1), "MB", bar=EACH_WORKER, note=note)]


def _call_bars(calls: Sequence[Call]) -> list[Amount]:
    mine = next(row for row in calls if row.contender == TENURE)
    others = [row for row in calls if not row.contender.startswith(TENURE) and not row.blocks]
    quickest, most = min(others, key=lambda row: row.p50), max(others, key=lambda row: row.per_second)
    title, unit = "a round trip of 4 KB", f"times that of {quickest.contender}"
    more = mine.per_second / most.per_second
    return [
        Amount("trip", title, TENURE, round(mine.p50 / quickest.p50, 2), unit, bar=1),
        _at_least("trips", "calls in a second, 32 callers", round(more, 2), f"times those of {most.contender}", 1),
    ]


def _at_least(word: str, title: str, value: float, unit: str, bar: float) -> Amount:
    return Amount(word, title, TENURE, value, unit, bar=bar, note=AT_LEAST, met=value >= bar)
