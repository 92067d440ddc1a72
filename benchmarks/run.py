"""The two runs: everything beside everyone, written down; and tenure alone, held against its bars."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING

import uvloop
from rich.table import Table

from benchmarks import memory, startup, state, tables, works
from benchmarks.contenders import BASELINE, FASTAPI, TENURE, contenders
from benchmarks.latency import ratios
from benchmarks.machine import about
from benchmarks.picture import draw
from benchmarks.results import Results
from benchmarks.rounds import Effort
from benchmarks.state import counting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.progress import Progress
    from benchmarks.results import Amount, Ratio

EFFORTS = {
    "quick": Effort(rounds=8, seconds=0.0025, limit=1.5),
    "default": Effort(rounds=150, seconds=0.0025, limit=18),
    "full": Effort(rounds=1_000, seconds=0.0025, limit=180),
}
MEMORY_REQUESTS = {"quick": 20_000, "default": 100_000, "full": 1_000_000}
STATE = {
    "quick": state.Plan(rounds=6, limit=1),
    "default": state.Plan(rounds=100, limit=1.7),
    "full": state.Plan(rounds=500, limit=15),
}
IMPORTS = {"quick": 3, "default": 15, "full": 30}
PLANNINGS = {"quick": 1, "default": 3, "full": 5}


def everything(progress: Progress, mode: str) -> None:
    """Measure everything, show it, and, unless it was quick, write it down."""
    everyone = contenders()
    effort = EFFORTS[mode]
    results = Results(about={})
    progress.expect(effort.rounds * len(works.WORKS))
    results.ratios = uvloop.run(ratios(works.WORKS, everyone, effort, progress.advance_to))
    for work in works.WORKS:
        show_ratios(progress, work, [row for row in results.ratios if row.work == work.id])
    progress.expect(None)
    results.state = state.measure(progress.advance_to, STATE[mode])
    show_lines(progress, tables.state_lines(results.state))
    results.amounts = [*amounts(progress, mode), *counting.amounts(results.state)]
    show_amounts(progress, results.amounts)
    if find_spec("benchmarks.served"):
        from benchmarks import served  # noqa: PLC0415 (its load generator and servers are wanted here only)

        progress.expect(None)
        results.served = served.measure(progress.advance_to, quick=mode == "quick")
        show_lines(progress, tables.served_lines(results.served))
    if mode == "quick":
        progress.say("Nothing is written: so few rounds are for trying things out.")
        return
    results.about = about([*state.PACKAGES, *(package for each in everyone for package in each.packages)], mode)
    results.write()
    tables.write(tables.tables_of(results))
    for place in (*draw(results), tables.PAGE):
        progress.say(f"wrote {place}")


def amounts(progress: Progress, mode: str) -> list[Amount]:
    """Measure what is not the time of a request; a new kind of row is one more line here."""
    everyone = contenders()
    progress.expect(len(everyone) + 4)
    rows = uvloop.run(memory.garbage(everyone, progress.advance_to))
    progress.advance_to("memory over many requests")
    rows += memory.flatness(MEMORY_REQUESTS[mode])
    progress.advance_to("start-up")
    rows.append(asyncio.run(startup.independent()))
    progress.advance_to("import")
    rows.append(startup.imported(IMPORTS[mode]))
    progress.advance_to("planning of big apps")
    rows += startup.planned(PLANNINGS[mode], ten_times=mode != "quick")
    return rows


def check(progress: Progress, effort: Effort) -> int:
    """Measure tenure, and what its ratios are to; give 1 if a bar is missed by more than the spread of the rounds."""
    ours = [each for each in contenders(others=False) if each.name in {BASELINE, TENURE}]
    beside_fastapi = [each for each in contenders(others=False) if each.name in {BASELINE, FASTAPI, TENURE}]
    progress.expect(effort.rounds * len(works.WORKS))
    rows: list[Ratio] = []
    for work in works.WORKS:
        taking_part = beside_fastapi if work.bar is None else ours
        rows += uvloop.run(ratios([work], taking_part, effort, progress.advance_to))
    held = [row for row in rows if row.bar is not None]
    show_bars(progress, held)
    missed = [row for row in held if row.missed_beyond_spread]
    for row in missed:
        progress.say(f"[red]missed[/]: {row.title}, {row.contender}: {row.ratio:.3f}, bar {row.bar:.3f}")
    return int(bool(missed))


def show_ratios(progress: Progress, work: works.Work, rows: Sequence[Ratio]) -> None:
    """Print the rows of a work."""
    table = Table(title=f"{work.title} ({work.id})", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for head in ("", "µs", "ratio", "quartiles", "bar", "closes"):
        table.add_column(head, justify="left" if head in {"", "closes"} else "right")
    for row in rows:
        table.add_row(
            row.contender,
            f"{row.microseconds:.1f}",
            f"{row.ratio:.3f}" if row.against else "",
            f"{row.low:.3f} to {row.high:.3f}" if row.against else "",
            bar_of(row),
            "" if row.closes_right else row.closes,
            style="bold" if row.contender.startswith(TENURE) else None,
        )
    progress.say(table)
    progress.say("")


def show_bars(progress: Progress, rows: Sequence[Ratio]) -> None:
    """Print what was held against a bar."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("request", "ratio", "quartiles", "bar"):
        table.add_column(head, justify="left" if head == "request" else "right")
    for row in rows:
        title = f"{row.title} ({row.work})"
        table.add_row(title, f"{row.ratio:.3f}", f"{row.low:.3f} to {row.high:.3f}", bar_of(row))
    progress.say(table)


def show_amounts(progress: Progress, rows: Sequence[Amount]) -> None:
    """Print the rows that are no ratios."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("", "", "", "bar", ""):
        table.add_column(head)
    for row in rows:
        bar = "" if row.bar is None else f"{'[green]' if row.met else '[red]'}{row.bar:g}[/]"
        table.add_row(row.title, row.contender, f"{row.value:g} {row.unit}", bar, row.note)
    progress.say(table)


def show_lines(progress: Progress, lines: Sequence[Sequence[str]]) -> None:
    """Print a table of the page."""
    head, *lines = lines
    table = Table(*head, box=None, padding=(0, 2, 0, 0))
    for line in lines:
        table.add_row(*(text.replace("**", "") for text in line))
    progress.say(table)


def bar_of(row: Ratio) -> str:
    """Say the bar, in the colour of whether it is met."""
    return "" if row.bar is None else f"{'[green]' if row.met else '[red]'}{row.bar:.3f}[/]"
