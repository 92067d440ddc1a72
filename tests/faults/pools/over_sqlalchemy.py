"""What the app under test borrows from `tenure.pools.sqlalchemy`."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tenure.pools.sqlalchemy import PoolSettings, engine
from tests.faults.pools.settings import Ask, application_name, given

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Sessions = async_sessionmaker[AsyncSession]


def settings() -> PoolSettings:
    """Read what the test wants of the pool."""
    return given({"connect_args": {"server_settings": {"application_name": application_name()}}})


database = engine(settings, name="database")
opened = database.pool
shared = database.sessions


def asking(session: AsyncSession) -> Ask:
    """Give what asks for one value, with values for ``$1`` and so on."""

    async def ask(query: str, *values: object) -> Any:
        named = {f"value{number}": value for number, value in enumerate(values, 1)}
        return await session.scalar(text(re.sub(r"\$(\d)", r":value\1", query)), named)

    return ask


async def reading(sessions: Annotated[Sessions, Depends(database.sessions)]) -> Ask:
    """Borrow for one statement."""

    async def ask(query: str, *values: object) -> Any:
        async with sessions() as session:
            return await asking(session)(query, *values)

    return ask


async def writing(session: Annotated[AsyncSession, Depends(database.session)]) -> Ask:
    """Borrow for a transaction, which the end of the handler commits."""
    return asking(session)


async def holding(sessions: Annotated[Sessions, Depends(database.sessions)]) -> Holding:
    """Give what holds a connection of its own for a block."""
    return Holding(sessions)


class Holding:
    """Holds one connection, and another one where one is held already."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Ask]:
        """Hold one, from its first statement on."""
        async with self._sessions() as session:
            yield asking(session)
