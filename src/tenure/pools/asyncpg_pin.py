"""One connection of an asyncpg pool for a block of code: a transaction, or what needs the same one throughout."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, TypedDict, TypeVar

import asyncpg

from tenure.cancellation import uninterrupted
from tenure.errors import AlreadyClosed
from tenure.pools.errors import ConcurrentUse, Unreachable, transaction_failed
from tenure.pools.sites import shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

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
        self.doubt: Site | None = None
        """Where the transaction may have failed: a statement did, or runs on the driver's connection itself."""

    async def take(self, site: Site, timeout: float | None = None) -> PoolConnectionProxy:
        """Have the connection, in a transaction if the block is one."""
        if self.loan is None:
            holding = self._within.loan if self._within is not None else None
            self.loan = await self._lender.lend(site, timeout=timeout, holding=holding)
            if self._begin is not None:
                await self._started(self.loan, self._begin)
        connection: PoolConnectionProxy = self.loan.connection
        return connection

    async def _started(self, loan: Loan, begin: Begin) -> None:
        """Begin the transaction; where that is cut off, give the connection back, or what follows would be in none."""
        transaction = loan.connection.transaction(**begin)
        try:
            # Entered, and not started, for such a one the driver rolls back without complaint when it is given back.
            await answered(self._lender, loan.connection, lambda _: transaction.__aenter__())
        except BaseException:
            self.loan = None
            await self._lender.take_back(loan)
            raise
        self._transaction = transaction

    async def run(self, site: Site, statement: Statement[T]) -> T:
        """Run a statement on the connection, after those that others have begun on it."""
        async with self._lock:
            if self.is_over:
                raise _over(self._lender.name)
            connection = await self.take(site)
            try:
                return await answered(self._lender, connection, statement)
            except asyncpg.InFailedSQLTransactionError:
                self.doubt = self.doubt or site  # another has failed before
                raise
            except BaseException:  # what is given up is cancelled at the server, and has failed there as well
                self.doubt = site
                raise

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
                await uninterrupted(self._finish(transaction, keep=False))
                raise
            else:
                try:
                    await self._finish(transaction, keep=True)
                except asyncio.CancelledError:
                    await uninterrupted(self._finish(transaction, keep=False))
                    raise
        finally:
            self._blocks.remove(block)

    async def _finish(self, transaction: Transaction, *, keep: bool) -> None:
        async with self._lock:
            if self.loan is not None and not self.is_over:
                await (self._commit if keep else self._lender.undo)(self.loan, transaction)
            elif keep:
                raise _over(self._lender.name)

    async def end(self, *, keep: bool) -> None:
        """
        Commit, if `keep` is so, or roll back, and give the connection back.

        Raises:
            Unreachable: The server went away before it had told whether it has committed.
            TransactionFailed: A statement has failed, and its error was caught; it is rolled back.
        """
        async with self._lock:
            self.is_over = True
            loan, transaction = self.loan, self._transaction
            if loan is None:
                return
            try:
                if transaction is not None and keep:
                    await self._commit(loan, transaction)
                elif transaction is not None:
                    await self._lender.undo(loan, transaction)
            finally:
                await self._lender.take_back(loan)

    async def _commit(self, loan: Loan, transaction: Transaction) -> None:
        if self.doubt is not None:
            try:
                await answered(self._lender, loan.connection, lambda connection: connection.execute("SELECT 1"))
            except asyncpg.InFailedSQLTransactionError as error:
                await self._lender.undo(loan, transaction)
                raise transaction_failed(self._lender.name, [f"failed at {shown(self.doubt)}"]) from error
        await answered(self._lender, loan.connection, lambda _: transaction.__aexit__(None, None, None))

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
    is_outermost = not connection.is_in_transaction()
    try:
        await uninterrupted(transaction.__aenter__())
    except (asyncio.CancelledError, TimeoutError) as error:
        # It may have begun all the same, and who holds the connection may go on with it.
        try:
            await uninterrupted(transaction.__aexit__(type(error), error, None))
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
            if is_outermost:
                with suppress(asyncpg.InterfaceError):  # the driver has ended it, and taken it back
                    connection.terminate()
        raise
    return transaction


def pinned(lender: Lender) -> Pin | None:
    """Give the connection that is held here and now, if one is."""
    pin = _pinned.get().get(lender)
    return None if pin is None or pin.is_over else pin


@asynccontextmanager
async def pinning(pin: Pin, where: Site | None = None, timeout: float | None = None) -> AsyncGenerator[Pin]:
    """
    Hold a connection for a block: from the start where it is said `where` that is, else from the first statement on.

    What the block raises rolls its transaction back, if it has one.
    """
    try:
        if where is not None:
            await pin.take(where, timeout)
        with pin:
            yield pin
        await pin.end(keep=True)
    finally:
        if not pin.is_over:
            await uninterrupted(pin.end(keep=False))


def _over(name: str) -> AlreadyClosed:
    msg = f"a connection of pool `{name}` was used after its transaction or block had ended"
    return AlreadyClosed(
        msg,
        hint="where the answer is under way, take `Depends(database.connection)`, or hold one, "
        "`async with pool.borrow() as connection`",
    )
