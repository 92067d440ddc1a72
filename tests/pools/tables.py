"""What tests of SQLAlchemy's engines map, and how they look at it from aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from collections.abc import Collection

TABLE = """
DROP TABLE IF EXISTS seats;
CREATE TABLE seats (id int PRIMARY KEY, seat int UNIQUE DEFERRABLE INITIALLY DEFERRED, CHECK (seat > 0))
"""
BACKEND = "SELECT pg_backend_pid()"


class Base(DeclarativeBase):
    """What is mapped."""


class Seat(Base):
    """A row; that two have one seat is found out at the commit."""

    __tablename__ = "seats"
    id: Mapped[int] = mapped_column(primary_key=True)
    seat: Mapped[int]


async def asked(dsn: str, query: str, *arguments: object) -> list[object]:
    """Ask the server on a connection of its own; give the first column."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def backends(dsn: str, name: str) -> set[object]:
    """Give the server's own list of the connections of an application."""
    return set(await asked(dsn, "SELECT pid FROM pg_stat_activity WHERE application_name = $1", name))


async def kill(dsn: str, pids: Collection[object]) -> None:
    """End backends, as an administrator would, and wait until they have."""
    await asked(dsn, "SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) AS pid", list(pids))
