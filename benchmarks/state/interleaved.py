"""One kind of work, done by several in turns: each round times everyone once, and ratios are taken within a round."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.results import Ratio
from benchmarks.rounds import WARM_UP, quartiles

if TYPE_CHECKING:
    from benchmarks.rounds import Effort

PIECES = 25
"""In how many a round's calls are timed, so that a median is not what else the machine does for a moment."""

Timed = Callable[[int], Awaitable[float]]
"""Does the work so many times, and gives the seconds of one."""


async def interleaved(
    taking_part: Mapping[str, Timed], effort: Effort, *, calls: int | None = None
) -> dict[str, list[float]]:
    """Give the seconds of one call, for each round, by contender; a round's calls are `calls`, or enough to tell."""
    numbers = {name: calls or await enough(timed, effort.seconds) for name, timed in taking_part.items()}
    found: dict[str, list[float]] = {name: [] for name in taking_part}
    names = list(taking_part)
    gc.collect()
    gc.freeze()  # so that the collection before each is short
    begin = perf_counter()
    for number in range(effort.rounds):
        if number and perf_counter() - begin > effort.limit:
            break
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()  # what the one before has left behind is not for this one to clear up
            if warm := min(WARM_UP, numbers[name] // 4):
                await taking_part[name](warm)
            found[name].append(await taking_part[name](numbers[name]))
    gc.unfreeze()
    return found


async def enough(timed: Timed, seconds: float) -> int:
    """Find how many calls take about so long; warm is who has been asked."""
    number = 1
    while (taken := number * await timed(number)) < seconds / 4:
        number *= 4
    return max(1, round(seconds / taken * number))


async def awaited(function: Callable[[int], Awaitable[object]], times: int) -> float:
    """Await it with each number below `times`, and give the seconds of one, the median of `PIECES`."""
    size = max(1, times // PIECES)
    taken: list[float] = []
    for first in range(0, times - size + 1, size):
        begin = perf_counter()
        for number in range(first, first + size):
            await function(number)
        taken.append((perf_counter() - begin) / size)
    return median(taken)


def compared(work: str, title: str, found: Mapping[str, list[float]], notes: Mapping[str, str]) -> list[Ratio]:
    """Give the rows of a work; ratios are to the first contender."""
    against = next(iter(found))
    rows: list[Ratio] = []
    for name, seconds in found.items():
        ratios = [mine / its for mine, its in zip(seconds, found[against], strict=True)]
        low, high = quartiles(ratios)
        rows.append(
            Ratio(
                work=work,
                title=title,
                contender=name,
                microseconds=round(median(seconds) * 1e6, 4),
                ratio=round(median(ratios), 5),
                low=round(low, 5),
                high=round(high, 5),
                rounds=len(seconds),
                against="" if name == against else against,
                note=notes.get(name, ""),
            )
        )
    return rows
