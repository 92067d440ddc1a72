"""
The connections of a sync `Engine`, over psycopg: waited for in the event loop, before a thread is taken.

FastAPI runs all `def` handlers in the same 40 threads. Where a thread waits for a connection, the threads are soon all
waiting, and who has a connection waits for a thread. Here a handler gets its thread once it has its connection's place.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import select
import socket
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeAlias, TypeVar

import anyio.to_thread
import psycopg
from anyio import CapacityLimiter
from psycopg import errors
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, event
from sqlalchemy.pool import QueuePool

from tenure.cancellation import uninterrupted
from tenure.pools.base import CHECK
from tenure.pools.errors import BlockingCall
from tenure.pools.sites import shown, site
from tenure.pools.sqlalchemy_pool import EnginePool, note
from tenure.pools.sqlalchemy_session import ThreadSession
from tenure.pools.watch import LOOK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.orm import Session
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from tenure.pools.places import Loan
    from tenure.pools.settings import PoolSettings
    from tenure.pools.sites import Site

    Driven: TypeAlias = psycopg.Connection[Any]

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("tenure")

AWAY = (
    errors.AdminShutdown,
    errors.CannotConnectNow,
    errors.ConnectionException,
    errors.CrashShutdown,
    errors.DatabaseDropped,
    errors.IdleSessionTimeout,
    errors.QueryCanceled,  # by `statement_timeout`, which is how a statement has its deadline here
    errors.TooManyConnections,
)
"""What the server says when it goes, restarts, is full or was too slow: no mistake of the program's."""


class SyncEnginePool(EnginePool):
    """
    The guard of a sync `Engine`, with as many threads of its own as it may have connections.

    Attributes:
        engine: The engine. A thread that borrows from it directly waits for its place itself.
    """

    driver: ClassVar[str] = "psycopg"

    def __init__(self, name: str, url: URL, settings: PoolSettings, size: int) -> None:
        super().__init__(name, settings, size)
        self._threads = CapacityLimiter(size)
        self._local = threading.local()
        self._ending: asyncio.Task[None] | None = None
        self._asked: dict[Driven, float] = {}
        options = dict(settings.options)
        self._arguments: dict[str, Any] = {
            "connect_timeout": math.ceil(settings.acquire_timeout),
            "options": f"-c statement_timeout={math.ceil(1000 * settings.command_timeout)}",
            "tcp_user_timeout": math.ceil(1000 * settings.command_timeout),
            **options.pop("connect_args", {}),
        }
        self.engine: Engine = create_engine(
            url,
            poolclass=_guarded(self._lend),
            pool_size=size,
            max_overflow=0,
            pool_timeout=settings.acquire_timeout,
            connect_args=self._arguments,
            **options,
        )
        self._guard(self.engine)
        event.listen(self.engine, "before_cursor_execute", self._before_statement)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        """
        Give a session for a block, to be used in threads; its place in the pool is waited for here.

        It is committed when the block ends, and rolled back when it raises. Both are done in threads of the pool's own.

        Raises:
            PoolExhausted: None was free in time.
            NestedBorrow: All who have a place wait for another.
            Unreachable: The server is away.
            TransactionFailed: A statement has failed, and its error was caught; it is rolled back.
        """
        loan = await self.place(site(), holding=self.holding())
        session = ThreadSession(self, loan)
        is_kept = is_abandoned = False
        try:
            yield session
            is_kept = True
        except asyncio.CancelledError:  # a thread may be using it still
            is_abandoned = True
            raise
        finally:
            await uninterrupted(self._ended(session, loan, is_kept=is_kept, is_abandoned=is_abandoned))

    async def run(self, function: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call a sync function with a session, in a thread of the pool's own; commit when it returns.

        For what no `def` handler does: websockets, streams, background tasks, and `async def` handlers.

        Raises:
            PoolExhausted: None was free in time.
            NestedBorrow: All who have a place wait for another.
            Unreachable: The server is away.
        """
        async with self.session() as session:
            return await self._in_thread(partial(function, session, *args, **kwargs))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run a function that needs the database; who calls has a place, so that a thread is always free."""
        return await uninterrupted(anyio.to_thread.run_sync(function, limiter=self._threads))

    async def _ended(self, session: ThreadSession, loan: Loan, *, is_kept: bool, is_abandoned: bool) -> None:
        """End a session, in a thread where there is something to be said to the server, and give its place back."""
        overdue = None
        if not is_kept:
            overdue = self._loop.call_later(self.settings.release_timeout, self._overdue, loan)
        try:
            if not session.is_connected:
                session.end(is_abandoned=is_abandoned)
            elif is_kept:
                await self._in_thread(session.commit_and_end)
            else:
                await self._in_thread(partial(session.end, is_abandoned=is_abandoned))
        finally:
            if overdue is not None:
                overdue.cancel()
            loan.connection = None
            self._places.give_back(loan)

    def _overdue(self, loan: Loan) -> None:
        if loan.connection is not None:
            self._killed += 1
            self._end(loan)
            logger.warning(
                "a connection of pool %s could not be given back in time, and was ended",
                self.name,
                extra={"tenure_event": "connection-ended", "tenure_pool": self.name},
            )

    @contextmanager
    def lending(self, loan: Loan) -> Generator[None]:
        """Let the connection that this thread takes in a block be the one of a place that is taken."""
        self._local.loan = loan
        try:
            yield
        finally:
            self._local.loan = None

    def _lend(self, connect: Callable[[], PoolProxiedConnection]) -> PoolProxiedConnection:
        """Take a connection, once there is a place for it; in a thread."""
        self._refuse_blocking()
        self.refuse()
        placed: Loan | None = getattr(self._local, "loan", None)
        loan = placed or self._wait(site())
        try:
            with self.lending(loan):
                connection = connect()
        except BaseException as error:
            if placed is None:
                self._returned(loan, error)
            if isinstance(error, psycopg.OperationalError):
                raise self.unreachable(error) from error
            raise
        if placed is None:
            note(connection, loan)
        self._places.lent(loan)
        return connection

    def _wait(self, site: Site) -> Loan:
        """Wait for a place, in a thread that has taken none."""
        loan = asyncio.run_coroutine_threadsafe(self.place(site), self._loop).result()
        loan.task = None
        return loan

    def _before_statement(self, connection: Connection, *_: object) -> None:
        self._refuse_blocking()
        self.expect_answer(connection)

    def expect_answer(self, connection: Connection) -> None:
        """Bound the wait for an answer, until the next one or until the connection is given back."""
        self._asked[_driven(connection)] = self._loop.time()

    def _on_answer(self, *about: Any) -> None:  # noqa: ANN401 (SQLAlchemy's)
        self._asked.pop(_driven(about[0]), None)
        super()._on_answer()

    def _on_checkin(self, connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        if connection is not None:
            self._asked.pop(self._driver(connection), None)
        super()._on_checkin(connection, record)

    async def _end_unanswered(self) -> None:
        """End connections on which the server owes an answer for longer than it gives itself, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            latest = self._loop.time() - self.settings.command_timeout - CHECK
            for driver, since in list(self._asked.items()):
                if since < latest:
                    self._asked.pop(driver, None)
                    self._killed += 1
                    self._shut(driver)
                    logger.warning(
                        "a statement of pool %s had no answer in time, and was ended",
                        self.name,
                        extra={"tenure_event": "connection-ended", "tenure_pool": self.name},
                    )

    def _refuse_blocking(self) -> None:
        """Refuse to block an event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        msg = f"a sync session or connection of pool `{self.name}` is used in an event loop, which it would block"
        raise BlockingCall(
            msg,
            path=[f"used at {shown(site())}"],
            hint="make the handler `def`, or hand the work over: `await pool.run(function)`",
        )

    def _lent(self) -> Loan:
        loan: Loan = self._local.loan
        return loan

    def _where(self) -> Site:
        return site()

    def _returned(self, loan: Loan, error: BaseException | None = None) -> None:
        loan.connection = None
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._places.give_back, loan, error)

    def _answers(self, connection: DBAPIConnection) -> bool:
        overdue = asyncio.run_coroutine_threadsafe(self._shut_soon(self._driver(connection)), self._loop)
        try:
            return self.engine.dialect.do_ping(connection)
        except psycopg.Error:
            return False
        finally:
            overdue.cancel()

    async def _shut_soon(self, driver: Driven) -> None:
        await asyncio.sleep(CHECK)
        self._shut(driver)

    def _reason(self, error: BaseException, driver: Any, context: ExceptionContext) -> BaseException | None:  # noqa: ANN401 (psycopg's connection)
        error = context.original_exception  # psycopg's own, which SQLAlchemy hands on as it is
        self._asked.pop(driver, None)
        if isinstance(error, psycopg.Error) and ((driver is not None and driver.closed) or isinstance(error, AWAY)):
            context.is_disconnect = not isinstance(error, errors.QueryCanceled)
            return error
        return None

    def _end(self, loan: Loan) -> None:
        driver: Driven | None = loan.connection
        if driver is not None:
            self._shut(driver)

    def _shut(self, driver: Driven) -> None:
        """End a connection under a thread that may be waiting on it: it wakes up, and sees that."""
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(driver.fileno())) as its_socket:
            its_socket.shutdown(socket.SHUT_RDWR)

    def _has_failed(self, connection: DBAPIConnection) -> bool:
        return bool(self._driver(connection).info.transaction_status == TransactionStatus.INERROR)

    def _is_gone(self, driver: Any) -> bool:  # noqa: ANN401 (psycopg's connection)
        return bool(driver.closed)

    def _is_doubtful(self, driver: Any) -> bool:  # noqa: ANN401 (psycopg's connection)
        """Tell whether the server has said something unasked, as it does before it ends a connection."""
        poll = select.poll()
        poll.register(driver.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _terminate(self, driver: Any) -> None:  # noqa: ANN401 (psycopg's connection)
        self._shut(driver)

    def _driver(self, connection: DBAPIConnection) -> Any:  # noqa: ANN401 (psycopg's connection)
        return connection

    async def _fill(self, count: int) -> None:
        await uninterrupted(anyio.to_thread.run_sync(self._connect, count, limiter=self._threads))
        self._ending = asyncio.create_task(self._end_unanswered(), name=f"tenure: watches statements of {self.name}")

    def _connect(self, count: int) -> None:
        held: list[Connection] = []
        try:
            for _ in range(count):
                held.append(self.engine.connect())  # noqa: PERF401 (those that there are must be closed if one fails)
        finally:
            for connection in held:
                connection.close()

    async def _dispose(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        await uninterrupted(anyio.to_thread.run_sync(self.engine.dispose, limiter=CapacityLimiter(1)))

    async def _probe(self) -> None:
        _, arguments = self.engine.dialect.create_connect_args(self.engine.url)
        connection = await psycopg.AsyncConnection.connect(**{**arguments, **self._arguments})
        await connection.close()


def _driven(connection: Connection) -> Any:  # noqa: ANN401 (psycopg's connection)
    return connection.connection.driver_connection


def _guarded(
    lend: Callable[[Callable[[], PoolProxiedConnection]], PoolProxiedConnection],
) -> type[QueuePool]:
    class GuardedPool(QueuePool):
        """SQLAlchemy's pool, asked by who has a place in it alone."""

        def connect(self) -> PoolProxiedConnection:
            return lend(super().connect)

    return GuardedPool
