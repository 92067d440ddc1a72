"""A folder for a service, and workers that end with the test."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processes import Worker, gone, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a place below folders that anyone may pass, and see that nothing runs there in the end."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    place.chmod(0o755)
    yield place / "service"
    until(lambda: gone(place / "service"))
    shutil.rmtree(place)


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Collect workers that are killed in the end."""
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.kill()
