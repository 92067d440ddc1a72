"""The way into the keeper: it loads what its service needs, and nothing of what its workers run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laden import Laden
from light import Light

if TYPE_CHECKING:
    from pathlib import Path


def test_a_keeper_loads_nothing_of_what_its_workers_run_on(folder: Path) -> None:
    """Neither FastAPI nor what it brings is in the keeper's memory."""
    with Light(folder):
        assert (folder / "seen").read_text() == "[]"


def test_a_service_may_be_declared_beside_an_app(folder: Path) -> None:
    """A module that takes from `tenure`, in whatever order, gets in the keeper what it gets everywhere."""
    with Laden(folder):
        assert (folder / "seen").read_text() == repr((True, True, "scoped", "Counter"))
