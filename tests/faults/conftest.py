"""A real PostgreSQL for the tests of what goes wrong."""

from collections.abc import Iterator

import asyncpg
import pytest

from tenure.host.postgres import EmbeddedPostgres
from tests.ports import free_port
from tests.roster.service import reachable_folder


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """Run a server in a folder that its own user can reach."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield server.dsn()


@pytest.fixture
def port() -> int:
    """Find a port that is free."""
    return free_port()


async def connections(dsn: str, name: str) -> int:
    """Count what PostgreSQL itself sees of the connections of an application."""
    observer = await asyncpg.connect(dsn)
    try:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        return int(await observer.fetchval(query, name))
    finally:
        await observer.close()


async def connections_end(dsn: str, name: str) -> bool:
    """Wait until an application has no connection left; PostgreSQL forgets one a moment after it was closed."""
    for _ in range(200):
        if not await connections(dsn, name):
            return True
    return False
