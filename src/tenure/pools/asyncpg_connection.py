"""What a borrower of an asyncpg pool has in hand: statements, each on a connection for itself or all on one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import asyncpg

from tenure.errors import AlreadyClosed
from tenure.pools.asyncpg_pin import Pin, answered, pinned, pinning
from tenure.pools.sites import site

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

    from asyncpg.cursor import Cursor, CursorFactory
    from asyncpg.pool import PoolConnectionProxy

    from tenure.pools.asyncpg_pin import Begin, Isolation, Lender, Statement

T = TypeVar("T")


class Connection:
    """
    Statements on a pool of PostgreSQL connections.

    As it is injected by ``Depends(database.connection)``, each statement has a connection for as long as it runs:
    nothing is held while the program waits for something else, so a slow client or a slow service pins nothing, and it
    may be used in streams, background tasks and websockets. State of a session, `SET`, `LISTEN`, a temporary table,
    does not last from one statement to the next.

    Inside ``async with connection.transaction()`` or ``async with pool.borrow()``, and where the request has
    ``Depends(database.transaction)``, all statements of that task, and of the tasks that it creates, use one
    connection, one after the other.

    Every wait ends: for a connection after the pool's `acquire_timeout`, for an answer after its `command_timeout`, or
    2.5 seconds after the server has gone silent.

    Each method is asyncpg's of the same name, and raises what that does; beside these:

    Raises:
        PoolExhausted: No connection was free in time. FastAPI answers 503.
        Unreachable: The server is away, restarts or does not answer. FastAPI answers 503.
        AlreadyClosed: The transaction or block that gave it has ended, or the app has.
    """

    def __init__(self, lender: Lender, pin: Pin | None = None) -> None:
        self._lender = lender
        self._pin = pin

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[asyncpg.Record]:
        """Run a query, and give its rows."""
        return await self._run(lambda connection: connection.fetch(query, *args, timeout=timeout))

    async def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> asyncpg.Record | None:
        """Run a query, and give its first row, or None."""
        return await self._run(lambda connection: connection.fetchrow(query, *args, timeout=timeout))

    async def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:  # noqa: ANN401 (any value of SQL)
        """Run a query, and give one value of its first row, or None."""
        return await self._run(lambda connection: connection.fetchval(query, *args, column=column, timeout=timeout))

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a statement, or several without arguments, and give the status of the last, such as ``INSERT 0 1``."""
        return await self._run(lambda connection: connection.execute(query, *args, timeout=timeout))

    async def executemany(
        self, command: str, args: Iterable[Sequence[object]], *, timeout: float | None = None
    ) -> None:
        """Run a statement for each sequence of arguments: all of them or none."""
        await self._run(lambda connection: connection.executemany(command, args, timeout=timeout))

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[object]] | AsyncIterator[Sequence[object]],
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Copy records into a table, by the fastest way there is."""
        return await self._run(
            lambda connection: connection.copy_records_to_table(
                table_name, records=records, columns=columns, schema_name=schema_name, timeout=timeout
            )
        )

    async def cursor(self, query: str, *args: object, prefetch: int = 50) -> AsyncIterator[asyncpg.Record]:
        """
        Give a query's rows one by one, `prefetch` of them at a time in memory; inside of a transaction only.

        Other statements may run between two rows.

        Raises:
            asyncpg.NoActiveSQLTransactionError: There is no transaction around it.
        """
        pin = self._pin or pinned(self._lender)
        if pin is None:
            msg = "a cursor lives in a transaction: open it inside of `async with connection.transaction()`"
            raise asyncpg.NoActiveSQLTransactionError(msg)
        where = site()
        cursor = await pin.run(where, lambda connection: _opened(connection.cursor(query, *args)))
        while True:
            rows = await pin.run(where, lambda _: cursor.fetch(prefetch))
            for row in rows:
                yield row
            if len(rows) < prefetch:
                return

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AsyncGenerator[Self]:
        """
        Do all or nothing of a block, on one connection, taken at once; inside of another transaction, a savepoint.

        Gives what its statements run on, this connection's twin; statements of other handles on the same pool that run
        in the block are part of it as well.

        Raises:
            ConcurrentUse: Another task has a transaction open on the same connection, as one that both inherit.
            TransactionFailed: At its end: a statement of it has failed, and its error was caught. It is rolled back.
        """
        where = site()
        begin: Begin = {"isolation": isolation, "readonly": readonly, "deferrable": deferrable}
        pin = self._pin or pinned(self._lender)
        if pin is not None:
            async with pin.transaction(where, begin):
                yield self
            return
        async with pinning(Pin(self._lender, begin), where) as pin:
            yield type(self)(self._lender, pin)

    @property
    def driver_connection(self) -> PoolConnectionProxy:
        """
        The asyncpg connection itself, for what has no method here; one statement at a time, as asyncpg wants it.

        Raises:
            AlreadyClosed: None is held: it is there inside of a transaction or `async with pool.borrow()` alone.
        """
        pin = self._pin or pinned(self._lender)
        if pin is None or pin.is_over or pin.loan is None:
            msg = f"no connection of pool `{self._lender.name}` is held here"
            raise AlreadyClosed(msg, hint="hold one: `async with pool.borrow() as connection`")
        pin.doubt = site()
        connection: PoolConnectionProxy = pin.loan.connection
        return connection

    async def _run(self, statement: Statement[T]) -> T:
        where = site()
        pin = self._pin or pinned(self._lender)
        if pin is not None:
            return await pin.run(where, statement)
        loan = await self._lender.lend(where)
        try:
            return await answered(self._lender, loan.connection, statement)
        finally:
            await self._lender.take_back(loan)


async def _opened(cursor: CursorFactory) -> Cursor:
    return await cursor
