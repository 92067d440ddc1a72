"""
PostgreSQL: its address, its schema, the pool that requests share, and the statements that borrow from it.

The server and its schema are the machine's: `host`. The pool is one worker's: `app`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import asyncpg
from fastapi import Depends

from roster.migrations import NEWEST, upgrade
from roster.settings import CurrentSettings, ReadSettings, Settings, origin
from tenure import scoped
from tenure.host.postgres import EmbeddedPostgres
from tenure.pools.asyncpg import Connection, PoolSettings, pool
from tenure.pools.asyncpg import Pool as ConnectionPool


class UnusableDatabase(Exception):
    """Raised at start when the database that the settings name cannot be used; the message holds the cure."""


class OtherDatabase(Exception):
    """Raised at start when this worker's database is not that of the workers which it would share state with."""


@dataclass(frozen=True)
class Database:
    """
    Which database it is; that is no secret, and all workers may know it.

    Attributes:
        name: What its server calls it.
        place: Where its server listens, as that sees it.
        identity: The same for whoever reaches the same schema of the same database, by whatever address.
    """

    name: str
    place: str
    identity: str

    def __str__(self) -> str:
        return f"`{self.name}` at {self.place}"


UNREADABLE = (
    "its address cannot be read; percent-encode `#`, `/`, `?`, `@`, `:` and `%` in a password, "
    "as `%23`, `%2F`, `%3F`, `%40`, `%3A` and `%25`"
)
BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
"""asyncpg takes it as it is, and libpq does not."""

LOOK = """
SELECT
    current_database() AS name,
    coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'a unix socket') AS place,
    concat_ws('/', system_identifier, pg_database.oid, current_schema()) AS identity
FROM pg_control_system(), pg_database
WHERE datname = current_database()
"""


@scoped("host", start_timeout=60)
def server(settings: ReadSettings) -> EmbeddedPostgres | None:
    """Share a PostgreSQL with the other workers of this machine, unless the settings name a database."""
    return EmbeddedPostgres(settings.data) if settings.dsn is None else None


Server = Annotated[EmbeddedPostgres | None, Depends(server)]


@scoped("host")
async def database(server: Server, settings: ReadSettings) -> Database:
    """Look once for all workers which database they use."""
    return await _look(server, settings)


# Named by the version: a worker of a newer program, started while older ones run, has another thing to do once.
@scoped("host", name=f"migrated-{NEWEST}", start_timeout=120)
def migrated(database: Annotated[Database, Depends(database)], server: Server, settings: ReadSettings) -> Database:
    """Bring the schema up to date, once however many workers start, and tell which database has it."""
    upgrade(_dsn(server, settings), seed=settings.seed)
    return database


@scoped("app")
async def address(migrated: Annotated[Database, Depends(migrated)], server: Server, settings: CurrentSettings) -> str:
    """Give the address of the database, once it is sure that this worker has the one that was migrated."""
    mine = await _look(server, settings)
    if mine.identity != migrated.identity:
        message = (
            f"this worker would use the database {mine}, and those that run use {migrated}; "
            "they would share counts, limits and what a search has found: "
            "give it their ROSTER_DSN and ROSTER_DATA, or a TENURE_DEPLOYMENT of its own"
        )
        raise OtherDatabase(message)
    return _dsn(server, settings)


def _dsn(server: EmbeddedPostgres | None, settings: Settings) -> str:
    if settings.dsn is not None:
        return settings.dsn.get_secret_value()
    return server.dsn() if server is not None else ""


def _is_misread(dsn: str) -> bool:
    """
    Tell whether a password has a sign by which asyncpg or libpq would take a part of it for something else.

    What they say of the address, or of the server that they look for then, has that part in it.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return True
    rest = f"{parts.netloc.partition('@')[2]}{parts.path}{parts.query}{parts.fragment}"
    return "@" in rest or BARE_PERCENT.search(dsn) is not None


def _unusable(reason: str) -> UnusableDatabase:
    message = (
        f"the database of {origin('ROSTER_DSN')} cannot be used: {reason}; "
        "set it to postgresql://user:password@host:port/database of a PostgreSQL that runs, "
        "or remove it and roster runs a PostgreSQL of its own"
    )
    return UnusableDatabase(message)


async def _look(server: EmbeddedPostgres | None, settings: Settings) -> Database:
    dsn = _dsn(server, settings)
    if settings.dsn is not None and _is_misread(dsn):
        raise _unusable(UNREADABLE)
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if settings.dsn is None:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        is_unreadable = isinstance(error, ValueError) and not isinstance(error, asyncpg.InterfaceError)
        raise _unusable(UNREADABLE if is_unreadable else reason) from None
    try:
        [row] = await connection.fetch(LOOK)
        return Database(row["name"], row["place"], row["identity"])
    finally:
        await connection.close()


def pool_settings(dsn: Annotated[str, Depends(address)], settings: CurrentSettings) -> PoolSettings:
    """Say what this worker's pool is like."""
    return PoolSettings(
        dsn=dsn,
        min_size=5,
        max_size=settings.pool_size,
        acquire_timeout=settings.pool_timeout,
        command_timeout=settings.pool_timeout,
        options={"server_settings": {"application_name": "roster"}},
    )


users = pool(pool_settings, name="users")

Pool = Annotated[ConnectionPool, Depends(users)]
Statements = Annotated[Connection, Depends(users.connection)]
"""Each borrows a connection for as long as it runs."""
