"""What was measured of a contender."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Found:
    """
    The rounds of a contender.

    Attributes:
        name: What tables call it.
        note: What is to be known of it.
        blocks: Whether the caller's event loop stands still meanwhile.
        alone: The seconds of each call of a lone caller, by round.
        at_once: How many calls many callers make in a second, by round.
    """

    name: str
    note: str
    blocks: bool = False
    alone: list[list[float]] = field(default_factory=list)
    at_once: list[float] = field(default_factory=list)
