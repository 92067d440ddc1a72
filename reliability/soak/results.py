"""What a soak has found, as soak.json keeps it, what must be so, and the tables."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tables import table, verdict

PLACE = Path(__file__).parent.with_name("soak.json")
EXIT = 10.0
"""Seconds that a server may take to exit after SIGTERM."""
ENDED = (0, -signal.SIGTERM)
"""How it exits in good order: uvicorn with one worker ends by the signal itself, once all is closed."""
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes at rest: of the worker that lived throughout, and of all workers on average."""

    oldest: int
    average: float


@dataclass
class Results:
    """
    A soak.

    Attributes:
        about: The machine, versions, revision and date.
        seconds: How long there was load.
        seed: What decided faults and load.
        workers: How many workers served.
        requests: How many there were of each operation.
        longest: Seconds of the longest request, and of the longest that met no fault.
        explained: Errors by kind of requests that met a fault or the seconds after it.
        unexplained: The others.
        faults: What each kind of fault did.
        writes: What became of the writes.
        counts: How often `/stats` was answered, what it counted, and how often it was asked.
        connections: roster's connections at rest, those of them that were not idle, and any that were left in the end.
        memory: At rest, after a quarter of the time and at the end.
        exit: Seconds from SIGTERM, with streams open, to the exit, and its status.
    """

    about: dict[str, Any]
    seconds: float
    seed: int
    workers: int
    requests: dict[str, int]
    longest: dict[str, float]
    explained: dict[str, int]
    unexplained: dict[str, int]
    faults: list[dict[str, Any]]
    writes: dict[str, int]
    counts: dict[str, int]
    connections: dict[str, int]
    memory: dict[str, dict[str, float]]
    exit: dict[str, float | None]
    verdicts: dict[str, bool] = field(init=False)

    def __post_init__(self) -> None:
        self.verdicts = {
            "lost": self.writes["lost"] == 0,
            "wrong": not (self.explained.get("wrong answer") or self.unexplained.get("wrong answer")),
            "unexplained": not self.unexplained,
            "counts": self.counts["answered"] <= self.counts["counted"] <= self.counts["sent"],
            "out": self.connections["out"] == 0,
            "left": self.connections["left"] == 0,
            "exit": self.exit["status"] in ENDED and (self.exit["seconds"] or 0) <= EXIT,
        }

    @property
    def holds(self) -> bool:
        """Whether all is so that must be so."""
        return all(self.verdicts.values())

    @property
    def drift(self) -> float:
        """By what part the memory of the oldest worker has grown."""
        return self.memory["end"]["oldest"] / self.memory["quarter"]["oldest"] - 1

    def write(self, place: Path = PLACE) -> None:
        """Write it as JSON."""
        place.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, place: Path = PLACE) -> Results:
        """Read what a soak has written."""
        content = json.loads(place.read_text())
        content.pop("verdicts")
        return cls(**content)


def lines(results: Results) -> list[list[str]]:
    """Give the rows of the table of what was found."""
    writes, connections, counts = results.writes, results.connections, results.counts
    met = {name: verdict(met) for name, met in results.verdicts.items()}
    total = sum(results.requests.values())
    return [
        ["what", "found", "must be", ""],
        ["requests", f"{total:,} in {results.seconds:.0f} s", "", ""],
        ["of which acknowledged writes", f"{writes['acknowledged']:,}", "", ""],
        ["**acknowledged writes lost**", f"**{writes['lost']}**", "0", met["lost"]],
        [
            "writes that were not acknowledged",
            f"{writes['unacknowledged']:,}, of which {writes['found']:,} were made",
            "",
            "",
        ],
        ["answers that are wrong", _count(results, "wrong answer"), "0", met["wrong"]],
        ["errors during a fault and in the 5 s after it", _errors(results.explained), "", ""],
        ["**errors at any other time**", f"**{_errors(results.unexplained)}**", "none", met["unexplained"]],
        ["longest request", f"{results.longest['all']:.2f} s", "", ""],
        ["longest request that met no fault", f"{results.longest['outside']:.2f} s", "", ""],
        [
            "requests counted on `/stats`",
            f"{counts['counted']:,}; {counts['answered']:,} answered, {counts['sent']:,} sent",
            "no less than answered, no more than sent",
            met["counts"],
        ],
        [
            "**connections out at rest**",
            f"**{connections['out']}** of {connections['all']}",
            "0",
            met["out"],
        ],
        ["connections left after the end", f"{connections['left']}", "0", met["left"]],
        ["memory of a worker that lived throughout", _drift(results), "", ""],
        ["exit after SIGTERM, with streams open", _exit(results), f"{EXIT:.0f} s", met["exit"]],
    ]


def fault_lines(results: Results) -> list[list[str]]:
    """Give the rows of the table of what was broken."""
    head = ["fault", "times", "requests that failed", "the last of them, from its beginning"]
    rows = []
    for row in results.faults:
        last = f"{row['longest_away']:.1f} s" if row["failed"] else ""
        rows.append([row["kind"], str(row["times"]), str(row["failed"]), last])
    return [head, *rows]


def tables_of(results: Results) -> dict[str, str]:
    """Give every table that a soak fills."""
    return {"soak": table(lines(results)), "faults": table(fault_lines(results))}


def _count(results: Results, kind: str) -> str:
    return str(results.explained.get(kind, 0) + results.unexplained.get(kind, 0))


def _errors(errors: dict[str, int]) -> str:
    often = sorted(errors.items(), key=lambda error: -error[1])
    return ", ".join(f"{kind} ({count:,})" for kind, count in often) or "none"


def _drift(results: Results) -> str:
    quarter, end = (results.memory[moment]["oldest"] / MEGABYTE for moment in ("quarter", "end"))
    return f"{quarter:.1f} MB after a quarter of the time, {end:.1f} MB at the end: {results.drift:+.1%}"


def _exit(results: Results) -> str:
    if results.exit["status"] is None:
        return "not in time; killed"
    return f"{results.exit['seconds']:.2f} s, status {results.exit['status']:.0f}"
