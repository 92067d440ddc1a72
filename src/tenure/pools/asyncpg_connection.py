"""What a borrower of an asyncpg pool has in hand: statements, each on a connection for itself or all on one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, TypedDict, TypeVar

import asyncpg

from tenure.cancellation import uninterrupted
from tenure.errors import AlreadyClosed
from tenure.pools.errors import ConcurrentUse, Unreachable
from tenure.pools.sites import shown, site

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from asyncpg.cursor import Cursor, CursorFactory
    from asyncpg.pool import PoolConnectionProxy
    from asyncpg.transaction import Transaction

    from tenure.pools.places import Loan
    from tenure.pools.sites import Site

T = TypeVar("T")
Statement: TypeAlias = "Callable[[PoolConnectionProxy], Awaitable[T]]"
"""What is run on a connection."""
Isolation: TypeAlias = Literal["read_committed", "read_uncommitted", "repeatable_read", "serializable"]
AWAY = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # between the server's last words on an idle connection and the end of it
)
"""What the driver raises when the server is away, restarting, full or silent: no mistake of the program's."""

_pinned: ContextVar[Mapping[Lender, Pin]] = ContextVar("tenure_asyncpg_pinned", default=MappingProxyType({}))


class Begin(TypedDict, total=False):
    """How a transaction begins."""

    isolation: Isolation | None
    readonly: bool
    deferrable: bool


class Lender(Protocol):
    """What lends connections."""

    name: str

    async def lend(self, site: Site, *, timeout: float | None = None, holding: Loan | None = None) -> Loan:
        """Take a connection."""
        ...

    async def take_back(self, loan: Loan) -> None:
        """Give it back, in the background where the caller is cancelled meanwhile."""
        ...

    async def undo(self, loan: Loan, transaction: Transaction) -> None:
        """Roll back, or end the connection where that cannot be done in time."""
        ...

    def heard(self) -> None:
        """Note that the server has answered."""
        ...

    def unreachable(self, error: BaseException) -> Unreachable:
        """Say that the server is away."""
        ...


class Pin:
    """One connection for a block of code, used by one statement at a time; taken at its first use, or at once."""

    def __init__(self, lender: Lender, begin: Begin | None = None, *, within: Pin | None = None) -> None:
        self._lender = lender
        self._begin = begin
        self._within = within
        self._lock = asyncio.Lock()
        self._transaction: Transaction | None = None
        self._blocks: list[tuple[asyncio.Task[Any] | None, Site]] = []
        self.loan: Loan | None = None
        self.is_over = False

    async def take(self, site: Site, timeout: float | None = None) -> PoolConnectionProxy:
        """Have the connection, in a transaction if the block is one."""
        if self.loan is None:
            holding = self._within.loan if self._within is not None else None
            self.loan = await self._lender.lend(site, timeout=timeout, holding=holding)
            if self._begin is not None:
                transaction = self.loan.connection.transaction(**self._begin)
                await answered(self._lender, self.loan.connection, lambda _: transaction.start())
                self._transaction = transaction
        connection: PoolConnectionProxy = self.loan.connection
        return connection

    async def run(self, site: Site, statement: Statement[T]) -> T:
        """Run a statement on the connection, after those that others have begun on it."""
        async with self._lock:
            if self.is_over:
                raise _over(self._lender.name)
            connection = await self.take(site)
            return await answered(self._lender, connection, statement)

    @asynccontextmanager
    async def transaction(self, site: Site, begin: Begin) -> AsyncGenerator[None]:
        """Open a transaction on the connection, a savepoint where there is one already."""
        task = asyncio.current_task()
        if self._blocks and self._blocks[-1][0] is not task:
            msg = f"two tasks have opened transactions on one connection of pool `{self._lender.name}`"
            raise ConcurrentUse(
                msg,
                path=[f"open at {shown(self._blocks[-1][1])}", f"opened at {shown(site)}"],
                hint="let each task borrow its own, `async with pool.borrow(separate=True)`, or do one after the other",
            )
        block = (task, site)
        self._blocks.append(block)
        try:
            transaction = await self.run(site, partial(_started, begin))
            try:
                yield
            except BaseException:
                await uninterrupted(self._finish(transaction, site, keep=False))
                raise
            else:
                await self._finish(transaction, site, keep=True)
        finally:
            self._blocks.remove(block)

    async def _finish(self, transaction: Transaction, site: Site, *, keep: bool) -> None:
        if keep:
            await self.run(site, lambda _: transaction.commit())
        elif not self.is_over and self.loan is not None:
            async with self._lock:
                await self._lender.undo(self.loan, transaction)

    async def end(self, *, keep: bool) -> None:
        """
        Commit, if `keep` is so, or roll back, and give the connection back.

        Raises:
            Unreachable: The server went away before it had told whether it has committed.
        """
        async with self._lock:
            self.is_over = True
            loan, transaction = self.loan, self._transaction
            if loan is None:
                return
            try:
                if transaction is not None and keep:
                    await answered(self._lender, loan.connection, lambda _: transaction.commit())
                elif transaction is not None:
                    await self._lender.undo(loan, transaction)
            finally:
                await self._lender.take_back(loan)

    def __enter__(self) -> Self:
        """Let what runs in this context from now on share the connection."""
        self._before = _pinned.get()
        _pinned.set({**self._before, self._lender: self})
        return self

    def __exit__(self, *_: object) -> None:
        """End that."""
        if _pinned.get().get(self._lender) is self:
            _pinned.set(self._before)


def is_gone(connection: PoolConnectionProxy) -> bool:
    """Tell whether a connection has been ended, by either side."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the driver's pool has taken it back when it ended
        return True


async def answered(lender: Lender, connection: PoolConnectionProxy, statement: Statement[T]) -> T:
    """Run a statement, and note that the server answers, or say that it does not."""
    try:
        answer = await statement(connection)
    except AWAY as error:
        raise lender.unreachable(error) from error
    except asyncpg.InterfaceError as error:
        if is_gone(connection):
            raise lender.unreachable(error) from error
        raise
    except asyncpg.PostgresError:
        lender.heard()
        raise
    lender.heard()
    return answer


async def _started(begin: Begin, connection: PoolConnectionProxy) -> Transaction:
    transaction = connection.transaction(**begin)
    await transaction.start()
    return transaction


def pinned(lender: Lender) -> Pin | None:
    """Give the connection that is held here and now, if one is."""
    pin = _pinned.get().get(lender)
    return None if pin is None or pin.is_over else pin


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


@asynccontextmanager
async def pinning(pin: Pin, where: Site | None = None, timeout: float | None = None) -> AsyncGenerator[Pin]:
    """
    Hold a connection for a block: from the start where it is said `where` that is, else from the first statement on.

    What the block raises rolls its transaction back, if it has one.
    """
    is_kept = False
    try:
        if where is not None:
            await pin.take(where, timeout)
        with pin:
            yield pin
        is_kept = True
    finally:
        await (pin.end(keep=True) if is_kept else uninterrupted(pin.end(keep=False)))


def _over(name: str) -> AlreadyClosed:
    msg = f"a connection of pool `{name}` was used after its transaction or block had ended"
    return AlreadyClosed(
        msg,
        hint="where the answer is under way, take `Depends(database.connection)`, or hold one, "
        "`async with pool.borrow() as connection`",
    )
