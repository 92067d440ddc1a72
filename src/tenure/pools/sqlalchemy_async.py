"""The connections of an `AsyncEngine`, over asyncpg: borrowed within a deadline, kept when a statement is cancelled."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import asyncpg
from asyncpg.transaction import Transaction
from greenlet import getcurrent
from sqlalchemy import event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from tenure.cancellation import uninterrupted
from tenure.pools.asyncpg_pin import AWAY
from tenure.pools.base import CHECK
from tenure.pools.sites import DEPTH, Site, site
from tenure.pools.sqlalchemy_pool import EnginePool, note, noted
from tenure.pools.sqlalchemy_session import TaskSession, asked_at

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, PoolResetState

    from tenure.pools.places import Loan
    from tenure.pools.settings import PoolSettings

    Driven: TypeAlias = "asyncpg.Connection[Any]"

logger = logging.getLogger("tenure")

INTERRUPTED = "tenure_interrupted"
"""Where a connection's record says that a statement of it was given up, and may be running still."""


class AsyncEnginePool(EnginePool):
    """
    The guard of an `AsyncEngine`.

    Attributes:
        engine: The engine.
        sessions: Makes sessions on it.
    """

    driver: ClassVar[str] = "asyncpg"

    def __init__(self, name: str, url: URL, settings: PoolSettings, size: int) -> None:
        super().__init__(name, settings, size)
        self._lending: dict[asyncio.Task[Any] | None, tuple[Loan, float]] = {}
        self._ending: dict[Loan, asyncio.TimerHandle] = {}
        options = dict(settings.options)
        self._arguments: dict[str, Any] = {
            "timeout": settings.acquire_timeout,
            "command_timeout": settings.command_timeout,
            "connection_class": WholeConnection,
            **options.pop("connect_args", {}),
        }
        self.engine = create_async_engine(
            url,
            poolclass=_guarded(self._lend),
            pool_size=size,
            max_overflow=0,
            pool_timeout=settings.acquire_timeout,
            connect_args={**self._arguments, "async_creator_fn": self._connect},
            **options,
        )
        engine = self.engine.sync_engine
        self._guard(engine)
        event.listen(engine, "begin", self._on_begin)
        event.listen(engine, "reset", self._on_reset)
        self.sessions = async_sessionmaker(self.engine, class_=TaskSession, expire_on_commit=False)

    def _lend(self, connect: Callable[[], PoolProxiedConnection]) -> PoolProxiedConnection:
        """Take a connection for the task that runs, once it has a place; in SQLAlchemy's greenlet."""
        until = self._loop.time() + self.settings.acquire_timeout
        loan = await_only(self.place(_asked(), holding=self.holding()))
        try:
            self._lending[loan.task] = loan, until
            try:
                connection = connect()
            finally:
                del self._lending[loan.task]
        except BaseException as error:
            self._places.give_back(loan, error)
            raise
        note(connection, loan)
        self._places.lent(loan)
        return connection

    async def _connect(self, **arguments: Any) -> Driven:  # noqa: ANN401 (asyncpg's)
        loan, until = self._lending[asyncio.current_task()]
        try:
            async with asyncio.timeout_at(until) as loan.deadline:
                loan.connection = await asyncpg.connect(**arguments)
        except AWAY as error:
            raise self.unreachable(error) from error
        finally:
            loan.deadline = None
        connection: Driven = loan.connection
        return connection

    def _lent(self) -> Loan:
        return self._lending[asyncio.current_task()][0]

    def _where(self) -> Site:
        return _asked()

    def _returned(self, loan: Loan) -> None:
        self._is_released(loan)
        loan.connection = None
        if _is_running(self._loop):
            self._places.give_back(loan)
        else:  # what nobody has closed is collected wherever a thread happens to be
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._places.give_back, loan)

    def _on_begin(self, connection: Connection) -> None:
        self._is_released(_loan(connection))

    def _on_rollback(self, connection: Connection) -> None:
        super()._on_rollback(connection)
        self._release_soon(_loan(connection))

    def _undo(self, connection: Connection) -> None:
        connection.info[INTERRUPTED] = True  # as it is, where this is cancelled
        super()._undo(connection)

    def _on_reset(self, connection: DBAPIConnection, record: ConnectionPoolEntry | None, state: PoolResetState) -> None:
        """Before a connection is given back, let the server be done with what was given up."""
        if record is None or not state.asyncio_safe:  # it is none of the pool's any more, or is being collected
            return
        self._release_soon(noted(record))
        if record.info.pop(INTERRUPTED, False):
            _run(connection, _settled)

    def _release_soon(self, loan: Loan | None) -> None:
        if loan is None or loan.connection is None or loan in self._ending:
            return
        self._ending[loan] = self._loop.call_later(self.settings.release_timeout, self._overdue, loan)

    def _is_released(self, loan: Loan | None) -> None:
        ending = self._ending.pop(loan, None) if loan is not None else None
        if ending is not None:
            ending.cancel()

    def _overdue(self, loan: Loan) -> None:
        """End a connection that has not been rolled back by now."""
        del self._ending[loan]
        driver = loan.connection
        if driver is not None and not driver.is_closed() and driver.is_in_transaction():
            driver.terminate()
            self._killed += 1
            logger.warning(
                "a connection of pool %s could not be given back in time, and was ended",
                self.name,
                extra={"tenure_event": "connection-ended", "tenure_pool": self.name},
            )

    def _answers(self, connection: DBAPIConnection) -> bool:
        try:
            _run(connection, _asked_anything)
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def _reason(self, error: BaseException, driver: Any, context: ExceptionContext) -> BaseException | None:  # noqa: ANN401 (asyncpg's connection)
        is_closed = driver is not None and driver.is_closed()
        if isinstance(error, (asyncio.CancelledError, TimeoutError)) and context.connection is not None:
            # The driver has the server cancel the statement, and waits for that before the next: no reason to lose
            # the connection, as SQLAlchemy would.
            context.is_disconnect = driver is None or is_closed
            if not context.is_disconnect:
                context.connection.connection.info[INTERRUPTED] = True
            return error if isinstance(error, TimeoutError) else None
        if isinstance(error, AWAY) or (is_closed and isinstance(error, asyncpg.InterfaceError)):
            context.is_disconnect = True
            return error
        return None

    def _end(self, loan: Loan) -> None:
        if loan.connection is not None:
            loan.connection.terminate()
        self._give_up(loan)

    def _has_failed(self, connection: DBAPIConnection) -> bool:
        try:
            _run(connection, _asked_within)
        except asyncpg.InFailedSQLTransactionError:
            return True
        except (*AWAY, asyncpg.InterfaceError) as error:
            raise self.unreachable(error) from error
        return False

    def _is_gone(self, driver: Any) -> bool:  # noqa: ANN401 (asyncpg's connection)
        return bool(driver.is_closed())

    def _terminate(self, driver: Any) -> None:  # noqa: ANN401 (asyncpg's connection)
        driver.terminate()

    def _driver(self, connection: DBAPIConnection) -> Any:  # noqa: ANN401 (asyncpg's connection)
        return self.engine.dialect.get_driver_connection(connection)

    async def _fill(self, count: int) -> None:
        try:
            async with AsyncExitStack() as stack:
                for _ in range(count):
                    await stack.enter_async_context(self.engine.connect())
        except asyncpg.PostgresError as error:  # as SQLAlchemy before 2.1 raises it
            raise self.unreachable(error) from error

    async def _dispose(self) -> None:
        await self.engine.dispose()

    async def _probe(self) -> None:
        _, arguments = self.engine.dialect.create_connect_args(self.engine.url)
        known = {**arguments, **self._arguments}
        for ours in ("prepared_statement_cache_size", "prepared_statement_name_func"):
            known.pop(ours, None)
        connection = await asyncpg.connect(**known)
        await connection.close()


class WholeConnection(asyncpg.Connection):
    """asyncpg's connection, whose transactions are never left half begun when their task is cancelled."""

    def transaction(self, **options: Any) -> WholeTransaction:  # noqa: ANN401 (asyncpg's)
        """Give a transaction."""
        defaults: dict[str, Any] = {"isolation": None, "readonly": False, "deferrable": False}
        return WholeTransaction(self, **{**defaults, **options})


class WholeTransaction(Transaction):
    """A transaction that begins, or does not, before a cancellation is let on."""

    async def start(self) -> None:
        """Begin."""
        try:
            await uninterrupted(super().start())
        except asyncio.CancelledError:
            with suppress(*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
                await uninterrupted(self.rollback())
            raise


def _guarded(
    lend: Callable[[Callable[[], PoolProxiedConnection]], PoolProxiedConnection],
) -> type[AsyncAdaptedQueuePool]:
    class GuardedPool(AsyncAdaptedQueuePool):
        """SQLAlchemy's pool, asked by who has a place in it alone."""

        def connect(self) -> PoolProxiedConnection:
            return lend(super().connect)

    return GuardedPool


def _asked() -> Site:
    """Give where the program asks, which is on the other side of SQLAlchemy's greenlet."""
    if where := asked_at.get():
        return where
    parent = getcurrent().parent
    return (site() + site(parent.gr_frame if parent else None))[:DEPTH]


def _loan(connection: Connection) -> Loan | None:
    if connection.closed or connection.invalidated:
        return None
    return noted(connection.connection)


def _run(connection: Any, work: Callable[[Driven], Coroutine[Any, Any, None]]) -> None:  # noqa: ANN401 (SQLAlchemy's adapter)
    connection.run_async(work)


async def _asked_anything(driver: Driven) -> None:
    await driver.fetchval("SELECT 1", timeout=CHECK)


async def _asked_within(driver: Driven) -> None:
    await driver.execute("SELECT 1")


async def _settled(driver: Driven) -> None:
    """Let the server be done with what was cancelled, and with its transaction."""
    try:
        with suppress(asyncpg.InFailedSQLTransactionError):
            await driver.execute("SELECT 1")  # the driver waits for the cancellation first
        if driver.is_in_transaction():
            await driver.execute("ROLLBACK")
    except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
        driver.terminate()


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
