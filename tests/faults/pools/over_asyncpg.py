"""What the app under test borrows from `tenure.pools.asyncpg`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends

from tenure.pools.asyncpg import Connection, Pool, PoolSettings, pool
from tests.faults.pools.settings import Ask, application_name, given

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def settings() -> PoolSettings:
    """Read what the test wants of the pool."""
    return given({"server_settings": {"application_name": application_name()}})


database = pool(settings, name="database")
opened = database
shared = database.connection


async def reading(connection: Annotated[Connection, Depends(database.connection)]) -> Ask:
    """Borrow for one statement."""
    return connection.fetchval


async def writing(transaction: Annotated[Connection, Depends(database.transaction)]) -> Ask:
    """Borrow for a transaction, which the end of the handler commits."""
    return transaction.fetchval


async def holding(pool: Annotated[Pool, Depends(database)]) -> Holding:
    """Give what holds a connection of its own for a block."""
    return Holding(pool)


class Holding:
    """Holds one connection, and another one where one is held already."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Ask]:
        """Hold one."""
        async with self._pool.borrow(separate=True) as connection:
            yield connection.fetchval
