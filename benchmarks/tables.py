"""The tables of docs/benchmarks.md, between the page's markers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.contenders import BASELINE, FASTAPI, TENURE
from benchmarks.machine import PROJECT
from benchmarks.works import MAIN, WORKS, Against, Moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.profiling import Profile
    from benchmarks.results import Amount, Ratio, Results

PAGE = PROJECT / "docs" / "benchmarks.md"
MARKS = {Moment.HANDLER: "†", Moment.ANSWERED: "‡"}
"""What marks a ratio whose session closes at another moment than the work wants."""


class NoMarker(Exception):
    """The page has no place for a table."""


def write(tables: dict[str, str], page: Path | None = None) -> None:
    """
    Put tables into a page, that of the benchmarks unless another is given, each between the markers of its name.

    Raises:
        NoMarker: The page has no markers of that name.
    """
    page = page or PAGE
    text = page.read_text()
    for name, table in tables.items():
        marker = re.compile(rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text, places = marker.subn(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)  # type: ignore[misc]
        if places != 1:
            msg = f"{page} has {places} places for the table `{name}`; it needs one, between two comments"
            raise NoMarker(msg)
    page.write_text(text)


def tables_of(results: Results) -> dict[str, str]:
    """Give every table that a run fills."""
    return {
        "libraries": libraries(results),
        "bars": bars(results),
        "amounts": amounts(results.amounts),
        "served": served(results.served),
        "state": state(results.state),
        "machine": machine(results),
    }


def libraries(results: Results) -> str:
    """Compare everyone at what everyone does."""
    wanted = {work.id: work for work in MAIN}
    rows = [row for row in results.ratios if row.work in wanted]
    garbage = {amount.contender: amount.note for amount in results.amounts if amount.id == "garbage"}
    lines = [["", *(work.title for work in MAIN), "cyclic garbage"]]
    for name in dict.fromkeys(row.contender for row in rows):
        cells = {row.work: cell(row) for row in rows if row.contender == name}
        line = [name, *(cells.get(work, "") for work in wanted), garbage.get(name, "")]
        lines.append([f"**{text}**" if name == TENURE and text else text for text in line])
    return table(lines)


def cell(row: Ratio) -> str:
    """Say a ratio, how far its rounds spread, and whether it closes when it should."""
    spread = f" ± {(row.high - row.low) / 2:.2f}" if row.against else f" ({row.microseconds:.0f} µs)"
    return f"{row.ratio:.2f}{spread}{mark(row)}"


def mark(row: Ratio) -> str:
    """Give the mark of a session that closes at another moment than the work wants."""
    return "" if row.closes_right else f" {MARKS[Moment(row.closes)]}"


def bars(results: Results) -> str:
    """Hold tenure against its bars, beside FastAPI's own and the best of the libraries."""
    lines = [["request", "ratio to", "FastAPI", "best library", "tenure", "quartiles", "bar", ""]]
    by_id = {work.id: work for work in WORKS}
    for row in results.ratios:
        if row.bar is None:
            continue
        others = [each for each in results.ratios if each.work == row.work]
        work = by_id[row.work]
        own = next((each for each in others if each.against and each.contender.startswith(FASTAPI)), None)
        best = min((each for each in others if is_library(each)), key=lambda each: each.ratio, default=None)
        lines.append(
            [
                row.title + (", an override set" if work.against is Against.ITSELF else ""),
                "itself without" if work.against is Against.ITSELF else "module globals",
                f"{own.ratio:.2f}" if own else "",
                f"{best.ratio:.2f} {best.contender}{mark(best)}" if best else "",
                f"**{row.ratio:.2f}**",
                f"{row.low:.2f} to {row.high:.2f}",
                f"{row.bar:.2f}",
                verdict(row.met),
            ]
        )
    return table(lines)


def is_library(row: Ratio) -> bool:
    """Tell whether a row is another library's."""
    return not row.contender.startswith((BASELINE, "FastAPI", TENURE))


def amounts(rows: Sequence[Amount]) -> str:
    """Say what else was measured of tenure."""
    lines = [["what", "measured", "bar", "", "how"]]
    lines += [
        [
            row.title + (" (1 / 5 / function / request)" if row.id == "garbage" else ""),
            f"**{row.value:g}** {row.unit}",
            "" if row.bar is None else f"{row.bar:g}",
            verdict(row.met),
            row.note,
        ]
        for row in rows
        if row.contender == TENURE
    ]
    return table(lines)


def served(rows: Sequence[dict[str, object]]) -> str:
    """Say what was measured over sockets."""
    return table(served_lines(rows)) if rows else "Not measured in this run."


def served_lines(rows: Iterable[dict[str, object]]) -> list[list[str]]:
    """Give the lines of that table, its head first."""
    lines = [["work", "program", "requests/s", "p50", "p99", "ratio", "bar", "", ""]]
    for row in rows:
        ratio, bar = number(row.get("ratio")), number(row.get("bar"))
        lines.append(
            [
                str(row["work"]),
                str(row["contender"]),
                said(row.get("requests_per_second"), "{:,.0f}"),
                said(row.get("latency_p50_ms"), "{:.1f} ms"),
                said(row.get("latency_p99_ms"), "{:.1f} ms"),
                said(ratio, "{:.2f}"),
                said(bar, "{:.2f}"),
                "" if bar is None or ratio is None else verdict(ratio >= bar),
                str(row.get("note") or ""),
            ]
        )
    return lines


def state(rows: Sequence[Ratio]) -> str:
    """Say what calls of shared state cost."""
    return table(state_lines(rows)) if rows else "Not measured in this run."


def state_lines(rows: Iterable[Ratio]) -> list[list[str]]:
    """Give the lines of that table, its head first; each work's title stands once."""
    lines = [["what", "with", "takes", "ratio", "quartiles", ""]]
    title = ""
    for row in rows:
        measured = [row.contender, duration(row.microseconds), digits(row.ratio)]
        if row.contender == TENURE:
            measured = [f"**{text}**" for text in measured]
        spread = f"{digits(row.low)} to {digits(row.high)}" if row.against else ""
        lines.append(["" if row.title == title else row.title, *measured, spread, row.note])
        title = row.title
    return lines


def duration(microseconds: float) -> str:
    """Say how long something takes."""
    if microseconds < 1:
        return f"{microseconds * 1000:.0f} ns"
    return f"{microseconds:.1f} µs" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"  # noqa: PLR2004 (of each)


def digits(ratio: float) -> str:
    """Say a ratio with two decimals, and a small one with its first two digits."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"  # noqa: PLR2004 (what has two digits)


def said(value: object, form: str) -> str:
    """Say a number, if it is one."""
    return "" if number(value) is None else form.format(value)


def number(value: object) -> float | None:
    """Give a number, if it is one."""
    return float(value) if isinstance(value, int | float) else None


def machine(results: Results) -> str:
    """Say where, when and on what."""
    about = results.about
    where = about["machine"]
    revision = about["git"]["revision"][:10] + (" with changes" if about["git"]["modified"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if name != "tenure")
    place = f"{where['cpu']} ({where['cores']} cores, load {where['load']} at the end)"
    run = f"tenure at {revision or 'no revision'}, mode {about['mode']}"
    return f"{about['date'][:10]}, {place}, {about['python']}, {run}.\n{versions}."


def profile(profiles: Iterable[Profile]) -> str:
    """Say which functions a request of tenure runs beyond the baseline's, and which it does not."""
    sections = []
    for found in profiles:
        lines = [["function", "calls per request", "µs"]]
        lines += [[f"`{each.name}`", f"{each.calls:+g}", f"{each.microseconds:+.1f}"] for each in found.differences]
        times = f"{found.tenure:.1f} µs, the baseline {found.baseline:.1f} µs ({found.ratio:.2f})"
        sections.append(f"**{found.work.title}**: {times}.\n\n{table(lines)}")
    return "\n\n".join(sections)


def verdict(met: bool | None) -> str:  # noqa: FBT001 (a fact, not an option)
    """Say whether a bar is met."""
    return {None: "", True: "met", False: "**missed**"}[met]


def table(lines: Sequence[Sequence[str]]) -> str:
    """Draw a table; the first line is its head."""
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rest])
