"""A part of a snapshot that fits on a page: what is near one dependency, or what the program declares itself."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from tenure.ops.snapshot import EdgeSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenure.ops.snapshot import NodeSnapshot, Snapshot


def own(app: Snapshot) -> Snapshot:
    """
    Leave out what tenure declares for itself.

    What takes such a part takes what that takes instead, so that all paths through it stay.
    """
    kept = [node for node in app.nodes if node.own]
    kept_ids = {node.id for node in kept}
    taken: dict[str, list[EdgeSnapshot]] = {}
    for edge in app.edges:
        taken.setdefault(edge.source, []).append(edge)
    edges: dict[tuple[str, str], EdgeSnapshot] = {}
    for node in kept:
        queue, seen = list(taken.get(node.id, [])), set[str]()
        for edge in queue:
            if edge.target in kept_ids:
                through = EdgeSnapshot(source=node.id, target=edge.target, parameter=edge.parameter)
                edges.setdefault((node.id, edge.target), through)
            elif edge.target not in seen:
                seen.add(edge.target)
                queue += taken.get(edge.target, [])
    return _of(app, kept, edges.values())


def near(app: Snapshot, name: str, depth: int) -> Snapshot:
    """
    Keep one dependency, with what it needs and what needs it, so many steps away.

    Raises:
        LookupError: There is none of this name; its text names those that are called alike.
    """
    focus = next((node.id for node in app.nodes if name in {node.id, node.name}), None)
    if focus is None:
        alike = get_close_matches(name, [node.name for node in app.nodes])
        msg = f"there is no dependency `{name}`{', but ' if alike else ''}{' and '.join(f'`{each}`' for each in alike)}"
        raise LookupError(msg)
    found = {focus}
    for sources in (True, False):
        reached = {focus}
        for _ in range(depth):
            reached |= {
                edge.source if sources else edge.target
                for edge in app.edges
                if (edge.target if sources else edge.source) in reached
            }
        found |= reached
    return _of(app, (node for node in app.nodes if node.id in found), app.edges)


def _of(app: Snapshot, nodes: Iterable[NodeSnapshot], edges: Iterable[EdgeSnapshot]) -> Snapshot:
    nodes = tuple(nodes)
    ids = {node.id for node in nodes}
    kept = tuple(edge for edge in edges if edge.source in ids and edge.target in ids)
    return app.model_copy(update={"nodes": nodes, "edges": kept})
