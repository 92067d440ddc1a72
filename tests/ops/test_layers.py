"""A layout in layers, of any graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenure.ops.layers import laid_out

NAMES = [f"n{number}" for number in range(12)]
EDGES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=30)


@given(EDGES)
def test_nothing_stands_on_anything(edges: list[tuple[str, str]]) -> None:
    """No two nodes share a place, no edge bends where a node stands, and all places are within the layout."""
    layout = laid_out(NAMES, edges)
    bends = [place for route in layout.routes.values() for place in route[1:-1]]
    places = [*layout.places.values(), *bends]
    assert len({(place.layer, place.row) for place in places}) == len(places)
    assert all(0 <= place.layer < layout.layers and 0 <= place.row <= layout.rows - 1 for place in places)


@given(EDGES)
def test_edges_lead_to_the_right(edges: list[tuple[str, str]]) -> None:
    """Without circles, each edge leads from its first node to its second, one layer to the right at each step."""
    forwards = [(min(edge, key=NAMES.index), max(edge, key=NAMES.index)) for edge in edges]
    layout = laid_out(NAMES, forwards)
    assert set(layout.routes) == {edge for edge in forwards if edge[0] != edge[1]}
    for (source, target), route in layout.routes.items():
        assert (route[0], route[-1]) == (layout.places[source], layout.places[target])
        assert [place.layer for place in route] == list(range(route[0].layer, route[-1].layer + 1))


def test_a_circle_moves_nothing() -> None:
    """The edge that closes a circle is drawn, and each stands where it would without that edge."""
    layout = laid_out(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a")])
    assert {name: place.layer for name, place in layout.places.items()} == {"a": 0, "b": 1, "c": 2}
    assert ("c", "a") in layout.routes


def test_a_chain_without_crossings_stays_so() -> None:
    """Two chains that do not touch are drawn without a crossing."""
    layout = laid_out(["a", "x", "b", "y", "c", "z"], [("a", "c"), ("b", "c"), ("x", "z"), ("y", "z")])
    rows = {name: place.row for name, place in layout.places.items()}
    assert (max(rows["a"], rows["b"]) < min(rows["x"], rows["y"])) is (rows["c"] < rows["z"])
