"""How much of shared state is measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from benchmarks.rounds import Effort


@dataclass(frozen=True)
class Plan:
    """
    How much is measured, as it is told to the process that does.

    Attributes:
        rounds: How many rounds each work has at the most.
        limit: Seconds after which no further round of a work is begun.
        seconds: How long one contender takes in a round, about.
        processes: How many count.
        messages: How many are sent through a subscriber in a round.
        others: Whether prometheus_client and cashews take part, which `make bench` alone installs.
    """

    rounds: int
    limit: float
    seconds: float = 0.005
    processes: int = 256
    messages: int = 10_000
    others: bool = True

    @property
    def effort(self) -> Effort:
        """The same, as rounds are told."""
        return Effort(rounds=self.rounds, seconds=self.seconds, limit=self.limit)

    def written(self) -> str:
        """Write it as an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, written: str) -> Plan:
        """Read what `written` gave."""
        return cls(**json.loads(written))

    def shorter(self, rounds: int) -> Plan:
        """Have so many rounds at the most."""
        return replace(self, rounds=min(rounds, self.rounds))
