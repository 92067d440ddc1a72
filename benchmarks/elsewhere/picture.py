"""The picture: what programs that serve one model answer under load, and how long another route then takes."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING

from benchmarks.elsewhere.results import PING, TENURE
from benchmarks.picture import BAR, GAP, MARGIN, ROW, WIDTH, Scale, opening, style, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.elsewhere.results import Results
    from benchmarks.models.results import Speed
    from benchmarks.picture import Theme

TOP, HEAD, BOTTOM, LABEL, VALUE = 70, 40, 44, 232, 50
TITLE = "One model, 64 callers"
SUBTITLE = "A search by MiniLM; each caller asks again as soon as it is answered."


def draw(results: Results) -> list[Path]:
    """Draw it for light and dark pages, and give where it is."""
    return written("models", partial(picture, results))


def picture(results: Results, theme: Theme) -> str:
    """Draw two panels beside one another: requests, and the other route."""
    most = max(row.callers for row in results.speed)
    rows = [row for row in results.speed if row.callers == most]
    wide = (WIDTH - 2 * MARGIN - GAP) / 2
    height = TOP + HEAD + ROW * len(rows) + BOTTOM
    pings = [row.ping_p99 or 0.0 for row in rows]
    panels = [
        panel(
            "Requests in a second",
            "longer is better",
            rows,
            scale=_requests(rows),
            value=lambda row: row.per_second,
            left=MARGIN,
        ),
        panel(
            "p99 of another route meanwhile, ms",
            f"logarithmic; shorter is better; the line is the bar, {PING:g} ms",
            rows,
            scale=Scale(0.5, max(*pings, PING * 2), MARGIN + wide + GAP + LABEL, wide - LABEL - VALUE),
            value=lambda row: row.ping_p99 or 0.0,
            left=MARGIN + wide + GAP,
            line=PING,
        ),
    ]
    about = results.about
    foot = (
        f"FastAPI {about['versions']['fastapi']}, {about['python']}, {about['machine']['cpu']}, "
        f"{about['machine']['cores']} cores, {about['date'][:10]}. docs/benchmarks.md has the method."
    )
    told = "; ".join(f"{row.server}: {row.per_second:.0f} requests/s, other route {row.ping_p99} ms" for row in rows)
    return "\n".join(
        [
            opening(height),
            f'<title id="title">{TITLE}</title>',
            f'<desc id="description">{escape(told)}</desc>',
            style(theme),
            f'<text class="title" x="{MARGIN}" y="32">{TITLE}</text>',
            f'<text class="muted" x="{MARGIN}" y="53">{SUBTITLE}</text>',
            *panels,
            f'<text class="small" x="{MARGIN}" y="{height - 16:g}">{escape(foot)}</text>',
            "</svg>\n",
        ]
    )


class _Linear:
    """An axis from 0 on."""

    def __init__(self, high: float, left: float, width: float) -> None:
        self.left, self.low = left, 0.0
        self._high, self._width = high, width

    def __call__(self, value: float) -> float:
        return self.left + self._width * value / self._high


def _requests(rows: Sequence[Speed]) -> _Linear:
    wide = (WIDTH - 2 * MARGIN - GAP) / 2
    return _Linear(max(row.per_second for row in rows), MARGIN + LABEL, wide - LABEL - VALUE)


def panel(  # noqa: PLR0913 (what it is called, what it shows, and where)
    title: str,
    told: str,
    rows: Sequence[Speed],
    *,
    scale: Scale | _Linear,
    value: Callable[[Speed], float],
    left: float,
    line: float | None = None,
) -> str:
    """Draw a bar for each."""
    first = TOP + HEAD
    parts = [
        f'<text class="work" x="{left:g}" y="{TOP + 14}">{escape(title)}</text>',
        f'<text class="small" x="{left:g}" y="{TOP + 31}">{escape(told)}</text>',
    ]
    x = scale(line) if line is not None else None
    if x is not None:
        parts.append(f'<line class="one" x1="{x:.1f}" x2="{x:.1f}" y1="{first}" y2="{first + ROW * len(rows):g}"/>')
    for number, row in enumerate(rows):
        mine, name = row.server.startswith(TENURE), escape(row.server.replace("`", ""))
        measured, top = value(row), first + ROW * number
        end = max(scale(max(measured, scale.low)), scale.left + 1.5)
        baseline, ours = top + ROW / 2 + 4.5, " ours" if mine else ""
        at = x + 6 if x is not None and end < x < end + VALUE else end + 7  # beside the line, not across it
        number_told = f"{measured:,.0f}" if measured >= 10 else f"{measured:.1f}"  # noqa: PLR2004 (two digits)
        parts.append(
            f'<text class="end{ours}" x="{scale.left - 10:g}" y="{baseline:g}">{name}</text>'
            f'<rect class="bar{" mine" if mine else ""}" x="{scale.left:.1f}" y="{top + (ROW - BAR) / 2:g}" '
            f'width="{end - scale.left:.1f}" height="{BAR}" rx="2"/>'
            f'<text class="value{ours}" x="{at:.1f}" y="{baseline:g}">{number_told}</text>'
        )
    return "\n".join(parts)
