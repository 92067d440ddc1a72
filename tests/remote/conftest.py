"""A place for what a test shares, and the object that lives apart."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenure import running
from tests.remote.things import app, thing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tenure.remote import Remote
    from tests.remote.things import Thing


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder of the test's own for all that its workers share."""
    folder = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def handle(place: Path) -> AsyncIterator[Remote[Thing]]:
    """Run the app, and give its handle on the object."""
    async with running(app) as scope:
        yield await scope.get(thing)
