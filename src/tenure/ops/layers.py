"""A graph laid out in layers: what is needed stands to the right of what needs it, with few crossings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Point: TypeAlias = str | tuple[str, str, int]
"""A node, or the bend of an edge in one layer."""

SWEEPS = 8
"""How often the order in each layer is mended, from left to right and back; more changes next to nothing."""


@dataclass(frozen=True)
class Place:
    """Where a node stands: its layer from the left, and its place in that from the top, which may lie between two."""

    layer: int
    row: float


@dataclass(frozen=True)
class Layout:
    """
    A graph with a place for each node.

    Attributes:
        places: Each node's.
        routes: For each edge the places that it leads through, its ends among them.
        layers: How many layers there are.
        rows: How many nodes stand in the largest of them.
    """

    places: dict[str, Place]
    routes: dict[tuple[str, str], list[Place]]
    layers: int
    rows: int


def laid_out(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> Layout:
    """Place the nodes of a graph; an edge that closes a circle is drawn, but moves nothing."""
    edges = [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]]
    layer = _layers(nodes, edges)
    # An edge over several layers bends in each: its bends take part in the order as nodes do, so that it has room.
    bends = {
        (source, target): [(source, target, step) for step in range(layer[source] + 1, layer[target])]
        for source, target in edges
    }
    columns: list[list[Point]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        columns[layer[node]].append(node)
    for bent in bends.values():
        for bend in bent:
            columns[bend[2]].append(bend)
    beside: dict[Point, list[Point]] = {}
    for (source, target), bent in bends.items():
        path: list[Point] = [source, *bent, target]
        for left, right in pairwise(path):
            beside.setdefault(left, []).append(right)
            beside.setdefault(right, []).append(left)
    _order(columns, beside)
    rows = max(map(len, columns), default=0)
    places = {
        point: Place(number, row + (rows - len(column)) / 2)
        for number, column in enumerate(columns)
        for row, point in enumerate(column)
    }
    return Layout(
        {node: places[node] for node in nodes},
        {(s, t): [places[s], *(places[bend] for bend in bent), places[t]] for (s, t), bent in bends.items()},
        len(columns),
        rows,
    )


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Say for each node how many stand before it on the longest way to it."""
    taken: dict[str, list[str]] = {}
    for source, target in edges:
        taken.setdefault(source, []).append(target)
    layer = dict.fromkeys(nodes, 0)
    position: dict[str, int] = {}  # in which each comes after all that it takes
    for root in nodes:  # without recursion: a chain may be longer than Python's stack
        open_nodes, stack = {root}, [(root, iter(taken.get(root, [])))]
        while stack:
            node, below = stack[-1]
            following = next((each for each in below if each not in position and each not in open_nodes), None)
            if following is not None:
                open_nodes.add(following)
                stack.append((following, iter(taken.get(following, []))))
            else:
                position.setdefault(node, len(position))
                stack.pop()
    for node in sorted(position, key=lambda each: -position[each]):
        for target in taken.get(node, []):
            if position[target] < position[node]:  # else it closes a circle
                layer[target] = max(layer[target], layer[node] + 1)
    return layer


def _order(columns: list[list[Point]], beside: dict[Point, list[Point]]) -> None:
    """Put each node beside the middle of what it is connected with, again and again."""
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        numbers = range(1, len(columns)) if forth else range(len(columns) - 2, -1, -1)
        for number in numbers:
            fixed = columns[number - 1 if forth else number + 1]
            row = {point: place for place, point in enumerate(fixed)}
            was = {point: place for place, point in enumerate(columns[number])}

            def middle(point: Point, row: dict[Point, int] = row, was: dict[Point, int] = was) -> float:
                rows = [row[each] for each in beside.get(point, []) if each in row]
                return sum(rows) / len(rows) if rows else was[point]

            columns[number].sort(key=middle)
