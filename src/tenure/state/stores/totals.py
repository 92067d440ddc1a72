"""
How hosts count together: each publishes totals of its own, which only grow, and the larger one is the newer.

So a publish may be lost, repeated, late, or overtaken by another: what an engine keeps is the same afterwards. An
engine that has lost everything has it again once each host has published. What is added and what is taken away are two
totals, so that each only grows.

An engine keeps, for each counter, the total of every replica and the total of all. Publishing raises a replica's total,
and that of all by as much, in one step. A replica that nobody has heard of for `KEPT` is forgotten, and stays in the
total of all: so what an engine keeps and reads does not grow with hosts that come and go.

This module does no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = 24 * 60 * 60.0
KEPT = 30 * DAY
"""Seconds after which an engine forgets a replica that has published nothing."""
CUT_OFF = 29 * DAY
"""
Seconds after which a host that could not publish takes its replica for forgotten, and begins a new one.

It publishes what is counted from then on: what it counted meanwhile may be in the total already, and would be too much.
"""
LARGEST = 2**63 - 1


class Totals(NamedTuple):
    """What was added to a count and what was taken away from it; both only grow."""

    added: int = 0
    removed: int = 0

    @property
    def value(self) -> int:
        """What is left."""
        return self.added - self.removed

    def since(self, before: Totals) -> Totals:
        """Give what came after other totals; nothing is below 0 or beyond 64 bits."""
        added, removed = self.added - before.added, self.removed - before.removed
        return Totals(min(max(added, 0), LARGEST), min(max(removed, 0), LARGEST))


class Standing(NamedTuple):
    """What an engine keeps of one counter: of all replicas together, and of the one that asks."""

    everyone: Totals
    own: Totals


@dataclass(frozen=True)
class Replica:
    """
    One source of totals: what one file of counts holds, from when on the replica began.

    Attributes:
        epoch: The file's.
        number: How many replicas of this file were forgotten before.
        bases: What the file held when this replica began, for each counter; nothing where it was the first.
    """

    epoch: str
    number: int = 0
    bases: Mapping[str, Totals] = field(default_factory=dict[str, Totals])

    @property
    def name(self) -> str:
        """What an engine calls it; no other has this name."""
        return f"{self.epoch}.{self.number}"

    def published(self, held: Mapping[str, Totals]) -> dict[str, Totals]:
        """Say what to publish when the file holds this."""
        return {name: totals.since(self.bases.get(name, Totals())) for name, totals in held.items()}

    def others(self, name: str, standing: Standing) -> int:
        """Say what is to be added to what the file holds of a counter, so that it is the value of all hosts."""
        return standing.everyone.value - standing.own.value - self.bases.get(name, Totals()).value

    def successor(self, held: Mapping[str, Totals]) -> Replica:
        """Begin another replica of the same file: what it holds now is left to the one before."""
        return Replica(self.epoch, self.number + 1, {**self.bases, **held})


class Ledger(Protocol):
    """
    What keeps the totals of all hosts of a deployment.

    Raises:
        StateUnavailable: From each call, when the engine does not do it in time. Whether it was done is then not known.
    """

    async def exchange(self, replica: str, totals: Mapping[str, Totals]) -> dict[str, Standing]:
        """Raise a replica's totals to these where they are larger, and give what is kept then, in one atomic step."""
        ...

    async def forget(self, kept: float) -> None:
        """Forget the replicas that have not published for so many seconds; the totals of all stay as they are."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class Number(Protocol):
    """A count of one machine."""

    def add(self, n: int = 1) -> int:
        """Add to it, and give the new value."""
        ...

    @property
    def value(self) -> int:
        """The value now."""
        ...


class ClusterNumber:
    """
    One count of all hosts, for this process to add to and to read: never waits for the network.

    Attributes:
        name: The counter's.
    """

    __slots__ = ("_added", "_learned", "_others", "_removed", "name")

    def __init__(self, name: str, added: Number, removed: Number, others: Number, learned: Number) -> None:
        self.name = name
        self._added = added
        self._removed = removed
        self._others = others
        self._learned = learned

    def add(self, n: int = 1) -> int:
        """Add to it, and give the new value: all adds of this machine, and those of others that are known here."""
        if n >= 0:
            return self._added.add(n) - self._removed.value + self._others.value
        self._removed.add(-n)
        return self.value

    @property
    def value(self) -> int:
        """The value now: all adds of this machine, and those of others that are known here."""
        return self._added.value - self._removed.value + self._others.value  # added first: late is lower, not higher

    @property
    def held(self) -> Totals:
        """What this machine has counted."""
        return Totals(self._added.value, self._removed.value)

    @property
    def learned(self) -> int:
        """When what is known of others was asked for, in nanoseconds of this machine's clock; 0 is never."""
        return self._learned.value

    def learn(self, others: int, at: int) -> None:
        """Know what others have counted; only to be called by one process at a time."""
        self._others.add(others - self._others.value)
        self._learned.add(at - self._learned.value)
