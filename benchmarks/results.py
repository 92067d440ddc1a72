"""What a run has found, as results.json keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PLACE = Path(__file__).parent / "results.json"


@dataclass
class Ratio:
    """
    A row of what requests, or calls of shared state, cost.

    Attributes:
        work: The work's id.
        title: What it is called.
        contender: Who did it.
        microseconds: Per request or call, the median of the rounds' means.
        ratio: To `against` in the same round, the median of all rounds.
        low: The first quartile of the rounds' ratios.
        high: The third.
        rounds: How many there were.
        against: What the ratio is to; empty for that row itself.
        closes: When the session is closed.
        closes_right: Whether that is when the work wants it closed.
        note: What else is not as the work says.
        bar: The highest ratio that it may have.
        met: Whether it has.
    """

    work: str
    title: str
    contender: str
    microseconds: float
    ratio: float
    low: float
    high: float
    rounds: int
    against: str = ""
    closes: str = ""
    closes_right: bool = True
    note: str = ""
    bar: float | None = None
    met: bool | None = None

    @property
    def missed_beyond_spread(self) -> bool:
        """Whether the bar is missed by more than the spread of the rounds."""
        return self.bar is not None and self.ratio > self.bar + (self.high - self.low)


@dataclass
class Amount:
    """
    A row of anything else: memory, garbage, seconds.

    Attributes:
        id: The word for it.
        title: What it is called.
        contender: Whose it is.
        value: How much it is.
        unit: Of what.
        bar: The highest value that it may have.
        met: Whether it has.
        note: How it was measured.
    """

    id: str
    title: str
    contender: str
    value: float
    unit: str
    bar: float | None = None
    note: str = ""
    met: bool | None = None

    def __post_init__(self) -> None:
        if self.bar is not None and self.met is None:
            self.met = self.value <= self.bar


@dataclass
class Results:
    """
    A run.

    Attributes:
        about: The machine, versions, revision and date.
        ratios: What requests cost.
        amounts: What else was measured.
        served: What `benchmarks.served` measured, as it gave it.
        state: What calls of shared state cost.
    """

    about: dict[str, Any]
    ratios: list[Ratio] = field(default_factory=list)
    amounts: list[Amount] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)
    state: list[Ratio] = field(default_factory=list)

    def write(self, place: Path = PLACE) -> None:
        """Write it as JSON."""
        store(self, place)

    @classmethod
    def read(cls, place: Path = PLACE) -> Results:
        """Read what a run has written."""
        content = json.loads(place.read_text())
        return cls(
            about=content["about"],
            ratios=[Ratio(**row) for row in content["ratios"]],
            amounts=[Amount(**row) for row in content["amounts"]],
            served=content["served"],
            state=[Ratio(**row) for row in content.get("state", ())],
        )


def store(results: DataclassInstance, place: Path) -> None:
    """Write what a run has found as JSON, for a person to compare and for the next report to read."""
    place.write_text(json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n")
