"""What became of each request, and whether a fault explains it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

AFTER = 5.0
"""Seconds after the end of a fault in which a request may still fail because of it."""
BROKEN = "connection broken"
LEFT = "client left"
LATE = "no answer in time"
WRONG = "wrong answer"


@dataclass(frozen=True)
class Outcome:
    """
    A request; times are of the monotonic clock.

    Attributes:
        operation: What was asked for.
        error: What went wrong; empty for an answer that is right.
        asked: When it was sent.
        ended: When it was answered, or had failed.
    """

    operation: str
    error: str
    asked: float
    ended: float

    @property
    def failed(self) -> bool:
        """Whether something went wrong that the client did not want."""
        return self.error not in {"", LEFT}


@dataclass
class Fault:
    """
    Something that was broken on purpose.

    Attributes:
        kind: What it was.
        began: When, by the monotonic clock.
        ended: When it was over: the worker replaced, PostgreSQL back.
    """

    kind: str
    began: float
    ended: float = math.inf

    def explains(self, outcome: Outcome) -> bool:
        """Tell whether a request met the fault, or the seconds after it."""
        return outcome.asked <= self.ended + AFTER and outcome.ended >= self.began


@dataclass(frozen=True)
class Row:
    """
    What one kind of fault did.

    Attributes:
        kind: Which.
        times: How often it was made.
        failed: How many requests failed, of those that met it.
        longest_away: Seconds from its beginning until the last of them failed, at most.
    """

    kind: str
    times: int
    failed: int
    longest_away: float


def divided(outcomes: Iterable[Outcome], faults: Iterable[Fault]) -> tuple[Counter[str], Counter[str]]:
    """Count the errors by kind: those that met a fault, and those that none explains."""
    faults = list(faults)
    explained: Counter[str] = Counter()
    unexplained: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.failed:
            (explained if any(fault.explains(outcome) for fault in faults) else unexplained)[outcome.error] += 1
    return explained, unexplained


def rows(outcomes: Iterable[Outcome], faults: Iterable[Fault]) -> list[Row]:
    """Say what each kind of fault did; a request that met two is told of the later one."""
    found: dict[str, list[float]] = {}
    faults = sorted(faults, key=lambda fault: fault.began)
    times = Counter(fault.kind for fault in faults)
    for outcome in outcomes:
        met = [fault for fault in faults if outcome.failed and fault.explains(outcome)]
        if met:
            found.setdefault(met[-1].kind, []).append(outcome.ended - met[-1].began)
    return [Row(kind, times[kind], len(found.get(kind, ())), max(found.get(kind, [0.0]))) for kind in sorted(times)]
