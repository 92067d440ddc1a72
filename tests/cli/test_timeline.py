"""The timeline of a start: what its bars and marks say."""

from __future__ import annotations

from datetime import UTC, datetime

from tenure.cli.timeline import Timeline
from tenure.ops.snapshot import EdgeSnapshot, NodeSnapshot, Snapshot


def timeline(until: float, *starts: tuple[str, float | None, float | None, str]) -> Timeline:
    """Make a timeline of resources: name, offset, seconds, and the names of what each needs."""
    nodes = tuple(
        NodeSnapshot(
            id=name, name=name, kind="resource", scope="app", type="", file="main.py", line=1, own=True,
            start_offset=offset, start_seconds=seconds, close_seconds=0.002 if name == "a" else 0.0001,
        )
        for name, offset, seconds, _ in starts
    )  # fmt: skip
    edges = tuple(
        EdgeSnapshot(source=name, target=need, parameter=need) for name, _, _, needs in starts for need in needs
    )
    now = datetime.now(UTC)
    return Timeline(Snapshot(app="", host="", pid=1, state="ready", time=now, nodes=nodes, edges=edges), until)


def drawn(line: Timeline, width: int) -> list[str]:
    """Give the lines, as plain text."""
    return [text.plain.rstrip() for text in line.lines(width)]


def test_bars_are_to_scale() -> None:
    """A bar begins where its resource did and is as long as its start was, in eighths of a cell, at least one."""
    line = timeline(2.0, ("a", 0.0, 1.0, ""), ("b", 1.0, 0.5, "a"), ("c", 1.5, 0.5, "b"), ("d", 0.0, 0.0001, ""))
    assert drawn(line, 51) == [
        "* a  app       1.000 s  ████████",
        "  d  app       0.000 s  ▏",
        "* b  app       0.500 s          ████",
        "* c  app       0.500 s              ████",
    ]


def test_bars_take_the_room_that_there_is() -> None:
    """The longest bar is as wide as the terminal allows, and 16 cells where it is too narrow."""
    line = timeline(1.0, ("a", 0.0, 1.0, ""))
    assert [drawn(line, width)[0].count("█") for width in (10, 60, 100)] == [16, 25, 65]


def test_parts_of_a_cell() -> None:
    """What does not fill its last cell fills a part of it."""
    line = timeline(1.0, ("a", 0.0, 1.0, ""), ("b", 0.0, 0.5 + 1 / 32, ""))
    assert drawn(line, 10)[1].endswith("  ████████▌")


def test_what_the_start_waited_for() -> None:
    """From what was ready last, the way back leads by what each had waited for last."""
    line = timeline(2.0, ("a", 0.0, 0.2, ""), ("b", 0.0, 0.9, ""), ("c", 0.9, 0.1, "ab"), ("d", 0.0, 0.95, ""))
    assert line.summary() == ["* what the start waited for: b, then c"]
    assert timeline(0.0).summary() == []


def test_what_never_began_comes_last() -> None:
    """What had not begun has no bar, and comes after what had, which was cut off where it was not ready."""
    line = timeline(1.0, ("c", None, None, "b"), ("b", 0.5, None, "a"), ("a", 0.0, 0.5, ""))
    assert drawn(line, 51) == [
        "* a  app       0.500 s  ████████",
        "* b  app       0.500 s          ████████ cut off",
        "  c  app                 not begun",
    ]


def test_closes_that_took_a_while() -> None:
    """Closes are told from a millisecond on."""
    assert timeline(1.0, ("a", 0.0, 0.5, ""), ("b", 0.0, 0.5, "")).closes() == "a 0.002 s"
    assert timeline(1.0, ("b", 0.0, 0.5, "")).closes() == "each within a millisecond"
