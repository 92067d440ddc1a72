"""What requests cost: every contender at every work, verified, then timed in interleaved rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.cases import cases_of
from benchmarks.contenders import FASTAPI, TENURE
from benchmarks.results import Ratio
from benchmarks.rounds import measure
from benchmarks.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.cases import Case
    from benchmarks.contenders import Contender
    from benchmarks.rounds import Effort, Timing
    from benchmarks.works import Work


async def ratios(
    works: Iterable[Work], contenders: Sequence[Contender], effort: Effort, advance: Callable[[str], None]
) -> list[Ratio]:
    """
    Verify and time; `advance` is told of each round, and of which work it was.

    Raises:
        NotTheWork: A case does not do what it says it does.
    """
    rows: list[Ratio] = []
    for work in works:
        cases = cases_of(work, contenders)
        for case in cases:
            await verify(case)
        timings = await measure(cases, effort, lambda title=work.title: advance(title))  # type: ignore[misc]
        rows += rows_of(work, timings)
    return rows


def rows_of(work: Work, timings: Sequence[Timing]) -> list[Ratio]:
    """Give the rows of one work, tenure's with their bars."""
    own = {timing.case.name: timing.ratio for timing in timings}
    return [row(timing, work.bar if work.bar is not None else own[FASTAPI]) for timing in timings]


def row(timing: Timing, bar: float) -> Ratio:
    """Give the row of one case."""
    case: Case = timing.case
    low, high = timing.quartiles
    held = case.contender.name == TENURE and case.against is not None
    return Ratio(
        work=case.work.id,
        title=case.work.title,
        contender=case.name,
        microseconds=round(timing.microseconds, 2),
        ratio=round(timing.ratio, 4),
        low=round(low, 4),
        high=round(high, 4),
        rounds=len(timing.means),
        against=case.against or "",
        closes=case.closes or "",
        closes_right=case.closes == case.work.closes,
        note=case.note,
        bar=round(bar, 4) if held else None,
        met=timing.ratio <= bar if held else None,
    )
