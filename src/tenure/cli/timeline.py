"""How a start went, from what was told of the app after it: a bar for each resource, and what it all waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tenure.cli.terminal import STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tenure.ops.snapshot import NodeSnapshot, Snapshot

Outcome = Literal["ready", "failed", "cut off", "not begun"]
SHORTEST_BAR = 16
"""Cells that the longest bar has, however narrow the terminal."""
LONGEST_SCOPE, LONGEST_OUTCOME = len("function"), len("not begun")
EIGHTHS = "▏▎▍▌▋▊▉█"
CRITICAL = "*"
SLOW_CLOSE = 0.001
"""Seconds from which a close is worth a word."""


@dataclass(frozen=True)
class Event:
    """
    The start of one resource, and its close.

    Attributes:
        node: The resource.
        outcome: How its start ended.
        seconds: How long its start took, or what there was of it.
        is_critical: Whether the app would have been ready sooner if it had been.
    """

    node: NodeSnapshot
    outcome: Outcome
    seconds: float
    is_critical: bool

    @property
    def is_ready(self) -> bool:
        """Whether it had started."""
        return self.outcome == "ready"

    @property
    def began(self) -> float:
        """When it began, in seconds after the start of the app."""
        return self.node.start_offset or 0

    @property
    def end(self) -> float:
        """When it had ended, likewise."""
        return self.began + self.seconds


class Timeline:
    """
    The starts of an app's resources.

    Attributes:
        app: What was told of the app.
        events: Each start, in the order in which they began; what never began comes last.
        seconds: How long all of it took.

    Args:
        app: What was told of the app.
        until: When the start had ended, in seconds after it began.
    """

    def __init__(self, app: Snapshot, until: float) -> None:
        self.app = app
        started = [node for node in app.nodes if _outcome(node) is not None]
        seconds = {node.id: _seconds(node, until) for node in started}
        critical = _critical(app, started, seconds)
        self.events = sorted(
            (Event(node, _outcome(node) or "not begun", seconds[node.id], node.id in critical) for node in started),
            key=lambda event: (event.outcome == "not begun", event.began),
        )
        self.seconds = until

    def lines(self, width: int) -> Iterator[Text]:
        """Draw a bar for each start, in lines of this many cells, or of more where names are long."""
        names = max((cell_len(event.node.name) for event in self.events), default=0)
        took = max((len(_told(event)) for event in self.events), default=0)
        bars = max(width - names - took - LONGEST_SCOPE - LONGEST_OUTCOME - 10, SHORTEST_BAR)
        for event in self.events:
            scope, has_begun = event.node.scope or "", event.outcome != "not begun"
            yield Text.assemble(
                (f"{CRITICAL if event.is_critical else ' '} ", "bold"),
                (set_cell_size(event.node.name, names), "" if event.node.own else "dim"),
                (f"  {scope:<{LONGEST_SCOPE}}", STYLES.get(scope, "")),
                f"  {_told(event):>{took}}  ",
                (_bar(event, self.seconds, bars) if has_begun else "", "green" if event.is_ready else "red"),
                ("" if event.is_ready else f" {event.outcome}", STYLES["error"] if has_begun else ""),
            )

    def summary(self) -> list[str]:
        """Say what the start waited for, one after the other."""
        path = [event.node.name for event in self.events if event.is_critical]
        return [f"{CRITICAL} what the start waited for: {', then '.join(path)}"] if path else []

    def closes(self) -> str:
        """Say how long the closes took, the longest first."""
        slow = [(event.node.close_seconds, event.node.name) for event in self.events if event.node.close_seconds]
        told = [f"{name} {seconds:.3f} s" for seconds, name in sorted(slow, reverse=True) if seconds >= SLOW_CLOSE]
        return ", ".join(told) or "each within a millisecond"

    def document(self) -> dict[str, Any]:
        """Give it as a document."""
        return {
            "readySeconds": self.app.ready_seconds,
            "events": [
                {
                    "resource": event.node.id,
                    "scope": event.node.scope,
                    "outcome": event.outcome,
                    "startOffset": event.node.start_offset,
                    "startSeconds": event.seconds if event.outcome != "not begun" else None,
                    "closeSeconds": event.node.close_seconds,
                    "critical": event.is_critical,
                }
                for event in self.events
            ],
        }


def _told(event: Event) -> str:
    return f"{event.seconds:.3f} s" if event.outcome != "not begun" else ""


def _bar(event: Event, whole: float, cells: int) -> str:
    """Draw a start from its begin to its end, in eighths of a cell, of which the first is always whole."""
    scale = cells / (whole or 1)
    first = min(int(event.began * scale), cells - 1)
    eighths = max(min(round(event.end * scale * 8), cells * 8) - first * 8, 1)
    return f"{' ' * first}{EIGHTHS[-1] * (eighths // 8)}{EIGHTHS[eighths % 8 - 1] if eighths % 8 else ''}"


def _outcome(node: NodeSnapshot) -> Outcome | None:
    """Say how a start ended; nothing for what an app does not start."""
    if node.start_seconds is not None:
        return "ready"
    if node.start_offset is not None:
        return "failed" if node.error else "cut off"
    return "not begun" if node.scope in {"app", "host", "cluster"} and node.kind != "lifespan" else None


def _seconds(node: NodeSnapshot, until: float) -> float:
    if node.start_seconds is not None:
        return node.start_seconds
    return max(until - node.start_offset, 0) if node.start_offset is not None else 0


def _critical(app: Snapshot, started: Iterable[NodeSnapshot], seconds: dict[str, float]) -> set[str]:
    """Find the chain that ended last: of what each waited for, that which was ready last."""
    ends = {node.id: (node.start_offset or 0) + seconds[node.id] for node in started if node.start_offset is not None}
    found: set[str] = set()
    last = max(ends, key=lambda each: ends[each], default=None)
    while last is not None and last not in found:
        found.add(last)
        needs = [edge.target for edge in app.edges if edge.source == last and edge.target in ends]
        last = max(needs, key=lambda each: ends[each], default=None)
    return found
