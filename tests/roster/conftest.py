"""One PostgreSQL and one running roster, with its real model, for all tests; a database of its own for who asks."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from roster.main import app
from tenure import Scope, running
from tenure.host.postgres import EmbeddedPostgres
from tests.roster.service import reachable_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

numbers = count()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for all, that of the running app."""
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """Run a real PostgreSQL."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield server


@pytest.fixture
def project() -> Iterator[Path]:
    """Make an empty folder to start the service in, for its own PostgreSQL too."""
    with reachable_folder() as folder:
        yield folder


def new_database(server: EmbeddedPostgres) -> str:
    """Make an empty database, and give its address."""
    name = f"roster_{next(numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.dsn(name)


@pytest.fixture
def database(server: EmbeddedPostgres) -> str:
    """Make an empty database, and give its address."""
    return new_database(server)


@pytest.fixture(scope="package")
async def scope(server: EmbeddedPostgres) -> AsyncIterator[Scope]:
    """Run the app, for these tests alone: what FastAPI is like while none runs is tested elsewhere."""
    with reachable_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROSTER_DSN", new_database(server))
        patch.setenv("ROSTER_POOL_TIMEOUT", "3")
        folder.chmod(0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # who runs roster in this project beside the tests shares nothing
        async with running(app) as scope:
            yield scope


@pytest.fixture
async def client(scope: Scope) -> AsyncIterator[httpx.AsyncClient]:
    """Make a client of the running app; a mistake in the app is answered, not raised."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://roster") as client:
        yield client
