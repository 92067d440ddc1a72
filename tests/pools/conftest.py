"""A real PostgreSQL, and a way to it that can fall silent."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tenure.host.postgres import EmbeddedPostgres
from tests.pools.proxy import Proxy
from tests.roster.service import reachable_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """Run a server in a folder that its own user can reach."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def dsn(server: EmbeddedPostgres) -> str:
    """Give the server's address."""
    return server.dsn()


@pytest.fixture
def proxied(dsn: str) -> Callable[[], AbstractAsyncContextManager[Proxy]]:
    """Give what opens a proxy in front of the server."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Proxy]:
        async with Proxy(dsn) as proxy:
            yield proxy

    return opened
