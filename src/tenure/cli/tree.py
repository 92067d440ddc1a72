"""An app's dependencies as a tree: below each route what it needs, or above each resource who needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from tenure.cli.terminal import STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenure.ops.snapshot import NodeSnapshot, Snapshot

ABOVE = "(as above)"
"""Stands beside what has been drawn already, with all below it."""
UNUSED = "used by no route"


class _Branches:
    """A tree in the making: what has been drawn once is referred to from then on."""

    def __init__(self, app: Snapshot, *, upwards: bool) -> None:
        self.nodes = {node.id: node for node in app.nodes}
        self.below: dict[str, list[str]] = {}
        for edge in app.edges:
            above, below = (edge.target, edge.source) if upwards else (edge.source, edge.target)
            if below not in self.below.setdefault(above, []):
                self.below[above].append(below)
        self._drawn: set[str] = set()

    def add(self, tree: Tree, id_: str, leaves: dict[str, list[str]] | None = None) -> None:
        """Add a node, what stands below it, and then its leaves."""
        stack = [(tree, id_)]
        while stack:  # without recursion: a chain may be longer than Python's stack
            parent, each = stack.pop()
            below = self.below.get(each, [])
            ends = (leaves or {}).get(each, [])
            again = each in self._drawn and bool(below or ends)
            branch = parent.add(_label(self.nodes[each], again=again))
            if again:
                continue
            self._drawn.add(each)
            for leaf in ends:
                branch.add(Text(leaf))
            stack += [(branch, child) for child in reversed(below)]


def by_route(app: Snapshot) -> list[Tree]:
    """Draw below each route what it needs; routes that need the same are drawn once."""
    branches, trees = _Branches(app, upwards=False), list[Tree]()
    for users, roots in _tops(app).items():
        tree = Tree(Text("\n".join(users), "bold"), guide_style="dim")
        for root in roots:
            branches.add(tree, root)
        trees.append(tree)
    return trees


def by_resource(app: Snapshot) -> list[Tree]:
    """Draw below each resource that needs nothing who needs it, down to the routes."""
    branches, trees = _Branches(app, upwards=True), list[Tree]()
    ends: dict[str, list[str]] = {}
    for users, roots in _tops(app).items():
        for root in roots:
            ends.setdefault(root, []).extend(users)
    needing = {edge.source for edge in app.edges}
    for node in app.nodes:
        if node.id not in needing:
            above = Tree("", guide_style="dim")
            branches.add(above, node.id, ends)
            trees += above.children
    return trees


def _tops(app: Snapshot) -> dict[tuple[str, ...], list[str]]:
    """Give for each group of users that need the same what of it they take themselves, as far as can be told."""
    needed: dict[str, list[str]] = {}
    for node in app.nodes:
        for user in (*node.used_by_routes, *node.used_by) or (UNUSED,):
            needed.setdefault(user, []).append(node.id)
    groups: dict[tuple[str, ...], list[str]] = {}
    for user, ids in needed.items():
        groups.setdefault(tuple(ids), []).append(user)
    return {tuple(users): _roots(app, ids) for ids, users in sorted(groups.items(), key=_routes_first)}


def _routes_first(group: tuple[tuple[str, ...], list[str]]) -> bool:
    return " /" not in group[1][0]


def _roots(app: Snapshot, ids: Iterable[str]) -> list[str]:
    """Give those that none of the others takes; of a circle, its first."""
    left = dict.fromkeys(ids)
    taken = {edge.target for edge in app.edges if edge.source in left and edge.source != edge.target}
    return [each for each in left if each not in taken] or list(left)[:1]


def _label(node: NodeSnapshot, *, again: bool) -> Text:
    place = f"{node.file}:{node.line}" if node.line else node.file
    kind = "" if node.kind in {"resource", "dependency"} else node.kind
    flags = [kind, "overridden" if node.overridden else ""]
    parts = [
        (node.name, "" if again else "bold"),
        *([(f"  {node.scope}", STYLES[node.scope])] if node.scope else []),
        *((f"  {flag}", "italic") for flag in flags if flag),
        (f"  {ABOVE}" if again else f"  {place}", "dim"),
    ]
    return Text.assemble(*parts)
