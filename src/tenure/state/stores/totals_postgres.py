"""
The totals of all hosts in PostgreSQL: one table for what is counted, and one for who was heard of when.

A row of `tenure.counters` is what one replica has published of one counter; the row of the replica `''` is the total of
all. What an exchange does is one transaction. It locks its replica's row first, so that those of one replica follow one
another; those of different hosts meet only where both have something new, at the total.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from tenure.errors import MissingExtra, StateMismatch, StateUnavailable
from tenure.state.stores.addresses import POSTGRES, refuse_misread
from tenure.state.stores.totals import Standing, Totals

try:
    import asyncpg

    from tenure.state.stores.statements import IS_MISSING, TURN, UNMADE
except ModuleNotFoundError as error:
    _message = "counters that machines share in PostgreSQL need asyncpg, which is not installed"
    raise MissingExtra(_message, hint="pip install 'tenure[asyncpg]'") from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

DEADLINE = 1.0
"""Seconds after which an exchange is given up."""
OPENING = 5.0
"""Seconds after which opening a connection is given up; the first one makes the tables."""

_FAILURES: Final = (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

VERSION = 1
"""The version of the tables."""
TABLES: Final = """
CREATE TABLE IF NOT EXISTS tenure.versions (tables text PRIMARY KEY, version integer NOT NULL);
CREATE TABLE IF NOT EXISTS tenure.counters (
    deployment text, replica text, name text, added bigint NOT NULL, removed bigint NOT NULL,
    PRIMARY KEY (deployment, replica, name)
);
CREATE TABLE IF NOT EXISTS tenure.counter_replicas (
    deployment text, replica text, heard timestamptz NOT NULL, PRIMARY KEY (deployment, replica)
);
INSERT INTO tenure.versions VALUES ('counters', 1) ON CONFLICT DO NOTHING;
"""
_VERSION: Final = "SELECT version FROM tenure.versions WHERE tables = 'counters'"

# Not asyncpg's `transaction`: after a time-out it would wait for the silent server to roll back. Here the connection of
# a transaction that failed is ended, and the server rolls back by itself.
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"  # each statement sees what came before it
_COMMIT: Final = "COMMIT"

_HEARD: Final = """
INSERT INTO tenure.counter_replicas (deployment, replica, heard) VALUES ($1, $2, now())
ON CONFLICT (deployment, replica) DO UPDATE SET heard = now()
"""
_PUBLISH: Final = """
WITH more AS (
    SELECT name, greatest(sent.added - coalesce(own.added, 0), 0) AS added,
           greatest(sent.removed - coalesce(own.removed, 0), 0) AS removed
    FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS sent (name, added, removed)
    LEFT JOIN (SELECT name, added, removed FROM tenure.counters WHERE deployment = $1 AND replica = $2) AS own
        USING (name)
)
INSERT INTO tenure.counters AS kept (deployment, replica, name, added, removed)
SELECT $1, replica, name, added, removed FROM more, unnest(ARRAY['', $2::text]) AS replica
WHERE added > 0 OR removed > 0
ORDER BY name, replica
ON CONFLICT (deployment, replica, name)
DO UPDATE SET added = kept.added + excluded.added, removed = kept.removed + excluded.removed
"""
"""In the order of names, so that two hosts never wait for each other."""
_STANDINGS: Final = """
SELECT name, replica, added, removed FROM tenure.counters
WHERE deployment = $1 AND replica IN ('', $2) AND name = ANY($3::text[])
"""
_FORGET: Final = """
WITH silent AS (
    DELETE FROM tenure.counter_replicas
    WHERE deployment = $1 AND heard < now() - make_interval(secs => $2) RETURNING replica
)
DELETE FROM tenure.counters USING silent
WHERE deployment = $1 AND tenure.counters.replica = silent.replica
"""


class PostgresLedger:
    """
    Keeps the totals of all hosts in PostgreSQL, over one connection that is opened again when it was lost.

    Args:
        dsn: The database's address, ``postgresql://…``, as asyncpg takes it.
        deployment: Stands in each row.
        deadline: Seconds after which an exchange is given up.

    Raises:
        DeclarationError: That address cannot be read.
    """

    def __init__(self, dsn: str, *, deployment: str, deadline: float = DEADLINE) -> None:
        refuse_misread(dsn, "the address of the engine of shared state", POSTGRES)
        self._dsn = dsn
        self._deployment = deployment
        self._deadline = deadline
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def exchange(self, replica: str, totals: Mapping[str, Totals]) -> dict[str, Standing]:
        """Raise a replica's totals to these where they are larger, and give what is kept then."""
        async with self._connected() as connection:
            return await self._exchange(connection, replica, totals)

    async def _exchange(
        self, connection: asyncpg.Connection[asyncpg.Record], replica: str, totals: Mapping[str, Totals]
    ) -> dict[str, Standing]:
        names = list(totals)
        added, removed = [each.added for each in totals.values()], [each.removed for each in totals.values()]
        await connection.execute(_BEGIN)
        await connection.execute(_HEARD, self._deployment, replica)
        await connection.execute(_PUBLISH, self._deployment, replica, names, added, removed)
        rows = await connection.fetch(_STANDINGS, self._deployment, replica, names)
        await connection.execute(_COMMIT)
        kept = {(row["replica"], row["name"]): Totals(row["added"], row["removed"]) for row in rows}
        return {name: Standing(kept.get(("", name), Totals()), kept.get((replica, name), Totals())) for name in names}

    async def forget(self, kept: float) -> None:
        """Forget the replicas that have not published for so many seconds."""
        async with self._connected() as connection:
            await connection.execute(_FORGET, self._deployment, kept)

    async def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            with suppress(*_FAILURES):
                await connection.close(timeout=self._deadline)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
        """Give the connection until the deadline; one on which anything failed is not used again."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._opened()
            async with asyncio.timeout(self._deadline):
                yield self._connection
        except _FAILURES as error:
            self._give_up()
            why = "it did not answer in time" if isinstance(error, TimeoutError) else str(error)
            msg = f"the PostgreSQL for shared state keeps no totals of counters now: {why}"
            hint = "see that it runs, and let its user make and use the schema `tenure`"
            raise StateUnavailable(msg, hint=f"{hint}: `CREATE SCHEMA tenure AUTHORIZATION …`") from error
        except BaseException:
            self._give_up()
            raise

    async def _opened(self) -> asyncpg.Connection[asyncpg.Record]:
        async with asyncio.timeout(OPENING):
            # Behind PgBouncer, a prepared statement may meet a session that has never heard of it.
            connection = await asyncpg.connect(self._dsn, timeout=OPENING, statement_cache_size=0)
            try:
                await _make_tables(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def _make_tables(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Make what is missing, one process at a time, and see that it is this version's."""
    version: int | None = None
    with suppress(*UNMADE):
        version = await connection.fetchval(_VERSION)
    if version is None:
        await connection.execute(_BEGIN)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", TURN)
        if await connection.fetchval(IS_MISSING):
            await connection.execute("CREATE SCHEMA tenure")
        await connection.execute(TABLES)
        version = await connection.fetchval(_VERSION)
        await connection.execute(_COMMIT)
    if version != VERSION:
        msg = f"the tables of counters are those of version {version}, and this tenure knows version {VERSION}"
        raise StateMismatch(msg, path=["tenure.versions"], hint="use one version of tenure, or another database")
