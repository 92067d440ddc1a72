"""docs/reliability.md: the tables between its markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.machine import PROJECT
from benchmarks.results import Results

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = PROJECT / "docs" / "reliability.md"


def write(found: Mapping[str, str]) -> None:
    """Put tables into the page, each between the markers of its name."""
    tables.write(dict(found), PAGE)


def machine(about: dict[str, Any]) -> str:
    """Say where, when and on what."""
    return tables.machine(Results(about=about))
