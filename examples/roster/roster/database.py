"""PostgreSQL: its address, its schema, the pool that requests share, and the connection that each of them borrows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from fastapi import Depends, HTTPException, status

from roster.migrations import upgrade
from roster.settings import CurrentSettings, origin
from tenure import scoped
from tenure.host.postgres import EmbeddedPostgres

UNAVAILABLE = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""What the driver raises when the database is away, restarting, full or slow: not a mistake of ours or the client's."""


class UnusableDatabase(Exception):
    """Raised at start when the database that the settings name cannot be used; the message holds the cure."""


@scoped("app", start_timeout=60)
async def server(settings: CurrentSettings) -> AsyncIterator[str]:
    """Give the address of the database that is set, else of a PostgreSQL that this machine's workers share."""
    if settings.dsn is not None:
        dsn = settings.dsn.get_secret_value()
        await _try(dsn)
        yield dsn
    else:
        async with EmbeddedPostgres(settings.data) as embedded:
            yield embedded.dsn()


async def _try(dsn: str) -> None:
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = origin("ROSTER_DSN")
        message = (
            f"the database of {where} cannot be used: {reason}; "
            "set it to postgresql://user:password@host:port/database of a PostgreSQL that runs, "
            "or remove it and roster runs a PostgreSQL of its own"
        )
        raise UnusableDatabase(message) from None
    await connection.close()


@scoped("app", start_timeout=120)
def migrated(dsn: Annotated[str, Depends(server)], settings: CurrentSettings) -> str:
    """Bring the schema up to date, once however many workers start, and give the address on."""
    upgrade(dsn, seed=settings.seed)
    return dsn


@scoped("app")
async def pool(dsn: Annotated[str, Depends(migrated)], settings: CurrentSettings) -> AsyncIterator[asyncpg.Pool]:
    """Hold the connections that all requests of this worker share."""
    async with asyncpg.create_pool(
        dsn,
        min_size=5,
        max_size=settings.pool_size,
        timeout=settings.pool_timeout,
        command_timeout=settings.pool_timeout,
        server_settings={"application_name": "roster"},
    ) as pool:
        yield pool


Pool = Annotated[asyncpg.Pool, Depends(pool)]


@scoped("function")
async def connection(pool: Pool, settings: CurrentSettings) -> AsyncIterator[PoolConnectionProxy]:
    """Borrow a connection for one call of a handler; it is back in the pool before the first byte of the answer."""
    try:
        async with pool.acquire(timeout=settings.pool_timeout) as borrowed:
            yield borrowed
    except UNAVAILABLE as error:
        detail = "the database does not answer at the moment"
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, detail, {"Retry-After": "1"}) from error


Connection = Annotated[PoolConnectionProxy, Depends(connection)]
