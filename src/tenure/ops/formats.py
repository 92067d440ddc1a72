"""A snapshot's graph in the formats of others: Mermaid, Graphviz's DOT, and SVG, which is drawn here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tenure.ops.layers import laid_out

if TYPE_CHECKING:
    from tenure.ops.layers import Layout, Place
    from tenure.ops.snapshot import NodeSnapshot, Snapshot

COLOURS = {
    "function": ("#0e7490", "#22d3ee"),
    "request": ("#1d4ed8", "#7aa2f7"),
    "app": ("#0a7d5c", "#3dd6a5"),
    "host": ("#a21caf", "#e879f9"),
    "cluster": ("#b45309", "#fbbf24"),
    "none": ("#6b7280", "#9ca3af"),
}
"""For each scope, on light and on dark; beside each stands its name."""
ARROW = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0 8 4 0 8z"/></marker>'
)
CHARACTER = 8
"""Pixels that a character is wide, at most on average, in the font of a name."""
SMALL_CHARACTER = 6.2
LONGEST_NAME = 32
HEIGHT, ROW, GAP, PADDING, MARGIN, TITLE = 44, 58, 52, 14, 24, 40
"""Pixels: of a box, from one row to the next, between columns, within a box, around all, and for the title."""


def mermaid(app: Snapshot) -> str:
    """Give a flowchart, as Markdown on GitHub and elsewhere shows it."""
    names = {node.id: f"n{number}" for number, node in enumerate(app.nodes)}
    lines = ["flowchart LR"]
    for node in app.nodes:
        text = "<br/>".join(_mermaid_text(line) for line in (node.name, second_line(node)))
        lines.append(f'  {names[node.id]}["{text}"]:::{node.scope or "none"}')
    lines += [f"  {source} --> {target}" for source, target in _pairs(app, names)]
    scopes = dict.fromkeys(node.scope or "none" for node in app.nodes)
    lines += [f"  classDef {scope} stroke:{COLOURS[scope][0]},stroke-width:2px" for scope in scopes]
    return "\n".join(lines)


def dot(app: Snapshot) -> str:
    """Give a graph for Graphviz: ``tenure graph --format dot | dot -Tpng``."""
    names = {node.id: _quoted(node.id) for node in app.nodes}
    lines = [
        f"digraph {_quoted(app.app)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="Helvetica"];',
    ]
    for node in app.nodes:
        label = _quoted(f"{node.name}\n{second_line(node)}")
        lines.append(f'  {names[node.id]} [label={label}, color="{COLOURS[node.scope or "none"][0]}"];')
    lines += [f"  {source} -> {target};" for source, target in _pairs(app, names)]
    return "\n".join([*lines, "}"])


def svg(app: Snapshot) -> str:
    """Draw a picture, on light or dark as its reader has it; it needs no font and nothing else from elsewhere."""
    layout = laid_out([node.id for node in app.nodes], [(edge.source, edge.target) for edge in app.edges])
    columns = _columns(app, layout)
    width = columns[-1][0] + columns[-1][1] + MARGIN if columns else 2 * MARGIN + TITLE
    height = TITLE + layout.rows * ROW + MARGIN
    title = f"{app.app or 'dependencies'}: {len(app.nodes)} dependenc{'y' if len(app.nodes) == 1 else 'ies'}"
    size = f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
            f"<style>{_style()}</style>",
            '<rect class="page" width="100%" height="100%"/>',
            f'<text class="title" x="{MARGIN}" y="{TITLE - 10}">{escape(title)}</text>',
            f"<defs>{ARROW}</defs>",
            *(_edge(route, columns) for route in layout.routes.values()),
            *(_box(node, layout.places[node.id], columns) for node in app.nodes),
            "</svg>",
        ]
    )


def second_line(node: NodeSnapshot) -> str:
    """Say of a dependency how long it lives and where it is declared, in few words."""
    place = f"{node.file.rpartition('/')[2]}:{node.line}" if node.line else node.file
    kind = "" if node.kind == "resource" else node.kind
    return " · ".join(part for part in (node.scope or "", kind, place) if part)


def _pairs(app: Snapshot, names: dict[str, str]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((names[edge.source], names[edge.target]) for edge in app.edges))


def _mermaid_text(text: str) -> str:
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):  # `#` before what has it
        text = text.replace(character, entity)
    return text


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _columns(app: Snapshot, layout: Layout) -> list[tuple[float, float]]:
    """Give the left edge and the width of each column, which has room for its longest text."""
    widths = [0.0] * layout.layers
    for node in app.nodes:
        layer = layout.places[node.id].layer
        texts = len(_short(node.name)) * CHARACTER, len(second_line(node)) * SMALL_CHARACTER
        widths[layer] = max(widths[layer], *(text + 2 * PADDING for text in texts))
    columns: list[tuple[float, float]] = []
    left = float(MARGIN)
    for width in widths:
        columns.append((left, width))
        left += width + GAP
    return columns


def _edge(route: list[Place], columns: list[tuple[float, float]]) -> str:
    """Draw an edge from box to box, level through each column that it only passes."""
    backwards = route[0].layer >= route[-1].layer
    x, y = sum(columns[route[0].layer]), _middle(route[0])
    path = f"M{x:.1f} {y:.1f}"
    for place in route[1:]:
        left, width = columns[place.layer]
        middle = (left + x) / 2 if not backwards else max(x, left + width) + GAP / 2
        end = left if not backwards else left + width
        path += f"C{middle:.1f} {y:.1f} {middle:.1f} {_middle(place):.1f} {end:.1f} {_middle(place):.1f}"
        x, y = left + width, _middle(place)
        path += f"H{x:.1f}" if place is not route[-1] else ""
    return f'<path class="edge" d="{path}" marker-end="url(#tip)"/>'


def _box(node: NodeSnapshot, place: Place, columns: list[tuple[float, float]]) -> str:
    left, width = columns[place.layer]
    top = _middle(place) - HEIGHT / 2
    told = [node.name, node.doc, f"{node.file}:{node.line}", *(f"used by {route}" for route in node.used_by_routes)]
    kind = f"{node.scope or 'none'}{'' if node.own else ' library'}"
    return (
        f'<g class="{kind}" transform="translate({left:.1f} {top:.1f})">'
        f"<title>{escape(chr(10).join(line for line in told if line))}</title>"
        f'<rect class="box" width="{width:.1f}" height="{HEIGHT}" rx="7"/>'
        f'<rect class="scope" y="8" width="4" height="{HEIGHT - 16}" rx="2"/>'
        f'<text class="name" x="{PADDING}" y="19">{escape(_short(node.name))}</text>'
        f'<text class="more" x="{PADDING}" y="35">{escape(second_line(node))}</text></g>'
    )


def _middle(place: Place) -> float:
    return TITLE + place.row * ROW + ROW / 2


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _style() -> str:
    light = {
        "page": "#ffffff",
        "box": "#f8fafc",
        "line": "#cbd5e1",
        "edge": "#94a3b8",
        "ink": "#0f172a",
        "dim": "#475569",
    }
    dark = {
        "page": "#0f141b",
        "box": "#18202b",
        "line": "#334155",
        "edge": "#64748b",
        "ink": "#e8edf4",
        "dim": "#9aa8ba",
    }
    fonts = "font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
    return "".join(
        [
            _rules(light, 0),
            f"text{{{fonts}}}.title{{font-size:15px;font-weight:600}}.name{{font-size:13px;font-weight:600}}",
            ".more{font-size:11px}.edge{fill:none;stroke-width:1.3}.library .box{stroke-dasharray:4 3}",
            f"@media(prefers-color-scheme:dark){{{_rules(dark, 1)}}}",
        ]
    )


def _rules(paint: dict[str, str], shade: int) -> str:
    scopes = "".join(f".{scope} .scope{{fill:{colours[shade]}}}" for scope, colours in COLOURS.items())
    return (
        f".page{{fill:{paint['page']}}}.box{{fill:{paint['box']};stroke:{paint['line']}}}"
        f".title,.name{{fill:{paint['ink']}}}.more{{fill:{paint['dim']}}}"
        f".edge{{stroke:{paint['edge']}}}.tip{{fill:{paint['edge']}}}{scopes}"
    )
