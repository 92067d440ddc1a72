"""A place for what a test shares, and files for its models."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenure import running
from tenure.models import ModelFile
from tests.models.served import Answer, app, multiplier

if TYPE_CHECKING:
    from tenure.models import Model

Pinned = Callable[[str, str], ModelFile]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder of the test's own for all that its workers share, with the factor 2 for the model."""
    folder = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    file = pinned_in(folder, "two.txt", "2")
    (folder / "declared").write_text(f"{file.path}\n{file.sha256}\n")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pinned_in(folder: Path, name: str, content: str) -> ModelFile:
    """Write a text file, and pin it."""
    (folder / name).write_text(content)
    (folder / name).chmod(0o600)
    return ModelFile(folder / name, sha256=hashlib.sha256(content.encode()).hexdigest(), format="text")


@pytest.fixture
def pinned(place: Path) -> Pinned:
    """Give what writes a text file into that folder, and pins it."""
    return lambda name, content: pinned_in(place, name, content)


@pytest.fixture
async def times(place: Path) -> AsyncIterator[Model[int, Answer]]:
    """Run the app, and give its handle on the model in another process."""
    del place
    async with running(app) as scope:
        yield await scope.get(multiplier)
