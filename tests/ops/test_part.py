"""A part of a snapshot: what the program declares itself."""

from __future__ import annotations

from datetime import UTC, datetime

from tenure.ops.part import own
from tenure.ops.snapshot import EdgeSnapshot, NodeSnapshot, Snapshot


def snapshot(names: str, *edges: str) -> Snapshot:
    """Make a snapshot of nodes whose names are letters; small ones are tenure's."""
    nodes = tuple(
        NodeSnapshot(
            id=name, name=name, kind="resource", scope="app", type="", file="main.py", line=1, own=name.isupper()
        )
        for name in names
    )
    told = tuple(EdgeSnapshot(source=edge[0], target=edge[1], parameter=edge) for edge in edges)
    return Snapshot(app="", host="", pid=1, state="declared", time=datetime.now(UTC), nodes=nodes, edges=told)


def test_paths_through_tenure_stay() -> None:
    """Who takes a part of tenure's takes instead what is reached by way of it, each once."""
    part = own(snapshot("AbcDE", "Ab", "bc", "cD", "bD", "AD", "cE", "DE"))
    assert [node.id for node in part.nodes] == ["A", "D", "E"]
    assert sorted(edge.source + edge.target for edge in part.edges) == ["AD", "AE", "DE"]


def test_circles_end() -> None:
    """A circle among tenure's parts is followed once."""
    part = own(snapshot("AbcD", "Ab", "bc", "cb", "cD"))
    assert [edge.source + edge.target for edge in part.edges] == ["AD"]
