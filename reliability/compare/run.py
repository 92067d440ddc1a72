"""The whole comparison, and what it found, as compare.json keeps it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import about
from benchmarks.tables import table
from reliability.compare.measures import MEASURES, Measure
from reliability.compare.subject import CONTENDERS, OURS, Contender, serving
from reliability.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.progress import Progress
    from tenure.host.postgres import EmbeddedPostgres

PLACE = Path(__file__).parent.with_name("compare.json")
PACKAGES = ("asyncpg", "psycopg", "sqlalchemy", "uvicorn")


@dataclass
class Results:
    """
    A comparison.

    Attributes:
        about: The machine, versions, revision and date.
        found: What each contender did, by name, at each measure, by id.
    """

    about: dict[str, Any] = field(default_factory=dict)
    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def write(self, place: Path = PLACE) -> None:
        """Write it as JSON."""
        place.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, place: Path = PLACE) -> Results:
        """Read what a comparison has written."""
        return cls(**json.loads(place.read_text()))


def compare(
    progress: Progress, contenders: Sequence[Contender] = CONTENDERS, measures: Sequence[Measure] = MEASURES
) -> Results:
    """
    Put every contender through every fault, and show each finding as it is made.

    Raises:
        CannotTest: One of them did not start.
    """
    results = Results()
    progress.expect(len(contenders) * len(measures))
    with postgres() as (folder, database):
        for measure in measures:
            for contender in contenders:
                progress.advance_to(f"{measure.id}: {contender.name}")
                found = asyncio.run(_find(measure, contender, folder, database))
                results.found.setdefault(contender.name, {})[measure.id] = found
                progress.say(f"{measure.id:<10} {contender.name:<38} {found}")
    results.about = about(PACKAGES, "all" if len(measures) == len(MEASURES) else "some")
    return results


async def _find(measure: Measure, contender: Contender, folder: Path, database: EmbeddedPostgres) -> str:
    async with serving(contender, folder, database) as subject:
        return await measure.find(subject)


def tables_of(results: Results) -> dict[str, str]:
    """Give the table that a comparison fills: a row for each fault, a column for each contender."""
    names = list(results.found)
    lines = [["fault", *(_marked(name, name) for name in names)]]
    for measure in MEASURES:
        cells = (_marked(name, results.found[name].get(measure.id, "")) for name in names)
        lines.append([measure.title, *cells])
    return {"compared": table(lines)}


def _marked(name: str, cell: str) -> str:
    return f"**{cell}**" if name == OURS.name and cell else cell
