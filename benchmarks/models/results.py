"""What was measured of a program that serves the model."""

from __future__ import annotations

from dataclasses import dataclass

DIRECT, POOLED = "called in `async def`", "called in `def`"
"""What tables call the two programs that others are held against."""
PART = 1.1
"""What part of a direct call's time another's may be, and some of a millisecond more."""


@dataclass(frozen=True)
class Speed:
    """
    A program under the load of so many callers.

    Attributes:
        server: What tables call it.
        callers: How many asked at once, each again as soon as it was answered.
        per_second: Requests in a second, the median of all rounds.
        p50: Milliseconds within which half of all answers were there, the median of all rounds.
        p99: The same of 99 in 100.
        ping_p50: Likewise, of a route that has nothing to do with the model and is asked meanwhile.
        ping_p99: Likewise; nothing where none was answered.
        ratio: Its requests in a second over those of `def` in the same round, the median of all rounds.
        beyond: Milliseconds that its `p50` is more than 1.1 times that of a direct call in the same round, the median
            of all rounds.
        rounds: How many there were.
    """

    server: str
    callers: int
    per_second: float
    p50: float
    p99: float
    ping_p50: float | None
    ping_p99: float | None
    ratio: float
    beyond: float
    rounds: int


@dataclass(frozen=True)
class Memory:
    """
    What a program takes with so many workers.

    Attributes:
        server: What tables call it.
        workers: How many processes answer HTTP.
        processes: How many it consists of, all together.
        megabytes: What they take, where what several share counts once; the median of all rounds.
    """

    server: str
    workers: int
    processes: int
    megabytes: float
