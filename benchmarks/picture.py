"""The picture of the README: what each library costs at the four works that all of them do, in light and in dark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape
from math import log
from typing import TYPE_CHECKING

from benchmarks.contenders import BASELINE, TENURE
from benchmarks.machine import PROJECT
from benchmarks.tables import mark
from benchmarks.works import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.results import Ratio, Results
    from benchmarks.works import Work

PLACE = PROJECT / "docs" / "images"
NOT_SHOWN = (BASELINE, f"{BASELINE}, again", f"{TENURE}, binding off")
"""The baseline is the line that bars begin at; the other two are for the tables."""

WIDTH, MARGIN, GAP = 920, 24, 48
TOP, BOTTOM = 82, 62
ROW, BAR, HEAD, PANEL_GAP = 24, 13, 62, 34
LABEL = 170
VALUE = 52
SUBTITLE = (
    "Time of a request over the same route on module globals, which is 1. Logarithmic axis; further left is better."
)
TICKS = (1, 1.5, 2, 3, 5, 10, 20)
TICK_DISTANCE = 20


@dataclass(frozen=True)
class Theme:
    """Colours that are read on a light or on a dark page."""

    name: str
    text: str
    muted: str
    line: str
    bar: str
    accent: str


LIGHT = Theme("light", text="#1f2328", muted="#656d76", line="#d8dee4", bar="#b6c2cf", accent="#0a7d5c")
DARK = Theme("dark", text="#e6edf3", muted="#8d96a0", line="#30363d", bar="#4d5763", accent="#3fc79a")


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis on which 1 is where bars begin."""

    low: float
    high: float
    left: float
    width: float

    def __call__(self, ratio: float) -> float:
        """Say where a ratio is."""
        return self.left + self.width * log(ratio / self.low) / log(self.high / self.low)


def draw(results: Results) -> list[Path]:
    """Draw both, and give where they are."""
    return written("benchmarks", partial(picture, results))


def written(name: str, drawn: Callable[[Theme], str]) -> list[Path]:
    """Write a picture of that name for light and for dark pages, and give where they are."""
    PLACE.mkdir(parents=True, exist_ok=True)
    places = []
    for theme in (LIGHT, DARK):
        place = PLACE / f"{name}-{theme.name}.svg"
        place.write_text(drawn(theme))
        places.append(place)
    return places


def picture(results: Results, theme: Theme) -> str:
    """Draw the four works, two in a row."""
    shown = [row for row in results.ratios if row.contender not in NOT_SHOWN]
    groups = [(work, sorted((r for r in shown if r.work == work.id), key=lambda r: r.ratio)) for work in MAIN]
    ratios = [row.ratio for _, rows in groups for row in rows]
    panel_width = (WIDTH - 2 * MARGIN - GAP) / 2
    panel_height = HEAD + ROW * max(len(rows) for _, rows in groups)
    height = TOP + 2 * panel_height + PANEL_GAP + BOTTOM
    parts = []
    for number, (work, rows) in enumerate(groups):
        left = MARGIN + (number % 2) * (panel_width + GAP)
        top = TOP + (number // 2) * (panel_height + PANEL_GAP)
        scale = Scale(
            low=min(0.9, *ratios) * 0.97,
            high=max(*ratios, 2),
            left=left + LABEL,
            width=panel_width - LABEL - VALUE,
        )
        parts.append(panel(work, rows, scale, left, top))
    title = "What a dependency costs"
    told = "; ".join(
        f"{work.title}: " + ", ".join(f"{r.contender} {r.ratio:.2f}" for r in rows) for work, rows in groups
    )
    return "\n".join(
        [
            opening(height),
            f'<title id="title">{title}</title>',
            f'<desc id="description">{escape(told)}</desc>',
            style(theme),
            f'<text class="title" x="{MARGIN}" y="32">{title}</text>',
            f'<text class="muted" x="{MARGIN}" y="53">{SUBTITLE}</text>',
            *parts,
            *footer(results, shown, height),
            "</svg>\n",
        ]
    )


def opening(height: float) -> str:
    """Give the element that all is in."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" '
        f'viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="title description">'
    )


def style(theme: Theme) -> str:
    """Give the style sheet."""
    return f"""<style>
text {{ font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: {theme.text}; }}
.title {{ font-size: 19px; font-weight: 600; }}
.work {{ font-size: 14px; font-weight: 600; }}
.muted {{ fill: {theme.muted}; }}
.small {{ font-size: 11px; fill: {theme.muted}; }}
.end {{ text-anchor: end; }}
.middle {{ text-anchor: middle; }}
.value {{ font-variant-numeric: tabular-nums; }}
.ours {{ fill: {theme.accent}; font-weight: 700; }}
.bar {{ fill: {theme.bar}; }}
.bar.mine {{ fill: {theme.accent}; }}
.line {{ stroke: {theme.line}; stroke-width: 1; opacity: 0.7; }}
.one {{ stroke: {theme.muted}; stroke-width: 1.25; }}
</style>"""


def panel(work: Work, rows: Sequence[Ratio], scale: Scale, left: float, top: float) -> str:
    """Draw one work: an axis, and a bar for each."""
    first = top + HEAD
    bottom = first + ROW * len(rows)
    told = f"closes {work.closes}" if work.closes else "made once, handed to every request"
    parts = [
        f'<text class="work" x="{left:g}" y="{top + 14:g}">{escape(work.title.capitalize())}</text>',
        f'<text class="small" x="{left:g}" y="{top + 31:g}">{told}</text>',
    ]
    for tick in ticks(scale):
        x = scale(tick)
        kind = "one" if tick == 1 else "line"
        parts += [
            f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{first - 6:g}" y2="{bottom:g}"/>',
            f'<text class="small middle" x="{x:.1f}" y="{first - 11:g}">{tick:g}</text>',
        ]
    parts += [bar(row, scale, first + ROW * number) for number, row in enumerate(rows)]
    return "\n".join(parts)


def ticks(scale: Scale) -> list[float]:
    """Give the marks of an axis that are not too near to one another."""
    kept: list[float] = []
    for tick in TICKS:
        if tick <= scale.high and (not kept or scale(tick) - scale(kept[-1]) >= TICK_DISTANCE):
            kept.append(tick)
    return kept


def bar(row: Ratio, scale: Scale, top: float) -> str:
    """Draw a contender's bar from 1 to its ratio, and say both."""
    mine = row.contender == TENURE
    start, end = sorted((scale(1), scale(row.ratio)))
    baseline = top + ROW / 2 + 4.5
    ours = " ours" if mine else ""
    return (
        f'<text class="end{ours}" x="{scale.left - 10:g}" y="{baseline:g}">{escape(row.contender)}</text>'
        f'<rect class="bar{" mine" if mine else ""}" x="{start:.1f}" y="{top + (ROW - BAR) / 2:g}" '
        f'width="{max(end - start, 1.5):.1f}" height="{BAR}" rx="2"/>'
        f'<text class="value{ours}" x="{max(end, scale(1)) + 7:.1f}" y="{baseline:g}">{row.ratio:.2f}{mark(row)}</text>'
    )


def footer(results: Results, rows: Sequence[Ratio], height: float) -> list[str]:
    """Say what the marks mean, and where and when it was measured."""
    marks = {mark(row).strip(): row.closes for row in rows if not row.closes_right}
    lines = []
    if marks:
        lines.append(";  ".join(f"{sign} closes {when}" for sign, when in sorted(marks.items())) + ".")
    about = results.about
    versions = about["versions"]
    lines.append(
        f"FastAPI {versions['fastapi']}, {about['python']}, {about['machine']['cpu']}, "
        f"{about['date'][:10]}. Medians of interleaved rounds; docs/benchmarks.md has the method."
    )
    begin = height - BOTTOM + 28
    return [
        f'<text class="small" x="{MARGIN}" y="{begin + 17 * number:g}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
