"""A folder for shared counts, workers that end with the test, and the servers that machines share."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tenure.host import EmbeddedPostgres, EmbeddedValkey
from tenure.state.stores import places
from tests.roster.service import reachable_folder
from tests.state.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder in shared memory where there is one."""
    memory = places.SHARED_MEMORY
    place = Path(tempfile.mkdtemp(prefix="tenure-test-", dir=memory if memory.is_dir() else None))
    yield place
    shutil.rmtree(place)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Worker]]:
    """Give what starts a worker in the folder; they are killed in the end."""
    started: list[Worker] = []

    def starting(**options: Any) -> Worker:
        started.append(Worker(folder, **options))
        return started[-1]

    yield starting
    for worker in started:
        worker.process.kill()
        worker.process.join()


@pytest.fixture(scope="module", params=["valkey", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a server that machines share, and give its address."""
    with reachable_folder() as folder:
        if request.param == "valkey":
            with EmbeddedValkey(folder / "valkey") as server:
                yield server.url()
        else:
            with EmbeddedPostgres(folder / "postgres") as database:
                yield database.dsn()
