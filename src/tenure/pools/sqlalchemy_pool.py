"""What guards the connections of an SQLAlchemy engine, with or without an event loop: who has one, and is it well."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from tenure.cancellation import uninterrupted
from tenure.errors import AlreadyClosed
from tenure.pools.errors import NestedBorrow, PoolExhausted, Unreachable
from tenure.pools.places import Places
from tenure.pools.stats import PoolStats
from tenure.pools.watch import Watch, tell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from sqlalchemy import Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection, PoolProxiedConnection

    from tenure.pools.places import Loan
    from tenure.pools.settings import PoolSettings
    from tenure.pools.sites import Site

logger = logging.getLogger("tenure")

CHECK = 1.0
"""Seconds that a connection has to answer when it is checked before use."""
USED = "tenure_used"
"""Where a connection's record says when it was last used."""
LOAN = "tenure_loan"
"""Where it says who has it."""


def note(connection: ManagesConnection, loan: Loan | None) -> None:
    """Note who has a connection, with its place in SQLAlchemy's pool."""
    if connection.record_info is not None:  # as it is when it is detached from the pool
        connection.record_info[LOAN] = loan


def noted(connection: ManagesConnection) -> Loan | None:
    """Give who has it."""
    return None if connection.record_info is None else connection.record_info.get(LOAN)


class EnginePool(ABC):
    """
    The connections of an SQLAlchemy engine, of which none is waited for without end; ``Depends(database.pool)``.

    SQLAlchemy's own pool keeps the connections. It is asked for one only by who has a place, and each that it gives is
    known to be alive.

    Belongs to one app, process and event loop.

    Attributes:
        name: What logs and errors call it.
        settings: What it is like.
    """

    def __init__(self, name: str, settings: PoolSettings, size: int) -> None:
        self.name = name
        self.settings = settings
        self.is_closed = False
        self._places = Places(name, size)
        self._watch = Watch(self._places, self._probe, self._end, settings.leak_after)
        self._loop = asyncio.get_running_loop()
        self._told = self._loop.time() - 1
        self._connections: set[Any] = set()
        self._killed = 0

    @property
    def stats(self) -> PoolStats:
        """How the pool is doing."""
        return PoolStats(
            size=self._places.size,
            open=len(self._connections),
            in_use=len(self._places.loans),
            waiting=self._places.waiting,
            refused=self._places.refused,
            killed=self._killed,
            leaked=self._watch.reported,
        )

    def holders(self) -> list[str]:
        """Say who holds a connection: since when, for which request, borrowed at which line; longest first."""
        return self._places.held()

    async def place(self, site: Site, *, holding: Loan | None = None) -> Loan:
        """Wait for a place in the pool; `holding` is what the borrower has already."""
        self._refuse()
        try:
            loan = await self._places.take(site, timeout=self.settings.acquire_timeout, holding=holding)
        except (NestedBorrow, PoolExhausted) as error:
            now = self._loop.time()
            if now - self._told >= 1:  # once a second: to say it for each would take the time that is missing
                self._told = now
                logger.error("%s", error, extra={"tenure_pool": self.name})  # noqa: TRY400 (it tells where by itself)
            raise
        try:
            self._refuse()  # as may be so since the wait began
        except BaseException:
            self._places.give_back(loan)
            raise
        return loan

    def holding(self) -> Loan | None:
        """Give what the task that runs has borrowed already."""
        task = asyncio.current_task()
        return next((loan for loan in self._places.loans if loan.task is task), None)

    def away(self, error: BaseException) -> Unreachable:
        """Say that the server is away."""
        if self._watch.is_down:
            return self._watch.silent()
        reason = str(error) or f"no answer in time ({type(error).__name__})"
        return Unreachable(f"the server of pool `{self.name}` cannot be used: {reason}")

    def _refuse(self) -> None:
        self._places.refuse_other_process()
        if self.is_closed:
            msg = f"pool `{self.name}` was used after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")
        self._watch.check()

    def _guard(self, engine: Engine) -> None:
        """Listen to what SQLAlchemy says of an engine's connections."""
        listeners: dict[str, Callable[..., Any]] = {
            "connect": self._on_connect,
            "checkout": self._on_checkout,
            "checkin": self._on_checkin,
            "detach": self._on_detach,
            "close": self._on_close,
            "after_cursor_execute": self._on_answer,
            "handle_error": self._on_error,
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)

    def _on_connect(self, _connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        self._connections.add(record.driver_connection)

    def _on_close(self, _connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        self._connections.discard(record.driver_connection)

    def _on_checkout(
        self, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxied: PoolProxiedConnection
    ) -> None:
        """Have a connection replaced that is closed, or that does not answer after it was idle for long."""
        driver = record.driver_connection
        self._lent().connection = driver
        used = record.info.get(USED)
        if used is None:
            return
        is_known = self._loop.time() - used < self.settings.check_after and used >= self._watch.up_since
        is_doubtful = not is_known or self._is_doubtful(driver)
        if self._is_gone(driver) or (is_doubtful and not self._answers(connection)):
            self._terminate(driver)
            msg = "it is closed, or does not answer"
            raise DisconnectionError(msg)

    def _on_checkin(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[USED] = self._loop.time()
        self._give_back(record)

    def _on_detach(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        self._connections.discard(self._driver(connection))
        self._give_back(record)

    def _give_back(self, record: ConnectionPoolEntry) -> None:
        loan = noted(record)
        if loan is not None:
            note(record, None)
            self._returned(loan)

    def _on_answer(self, *_: object) -> None:
        self._watch.heard()

    def _on_error(self, context: ExceptionContext) -> Exception | None:
        """Say what an error means: that the server is away, or something for the program, which passes unchanged."""
        context.invalidate_pool_on_disconnect = False  # each is looked at when it is borrowed
        error = context.original_exception
        driver = None
        if context.connection is not None and not (context.connection.closed or context.connection.invalidated):
            driver = context.connection.connection.driver_connection
        reason = self._reason(error.__cause__ or error, driver, context)
        if reason is not None:
            return self.away(reason)
        if isinstance(error, Exception):  # and no cancellation
            self._watch.heard()
        return None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """
        Open the pool for a block, and look after it; what is out at its end is waited for a little, named and ended.

        Raises:
            Unreachable: The server cannot be used.
        """
        watching = asyncio.create_task(self._watch.run(), name=f"tenure: watches pool {self.name}")
        try:
            try:
                await self._open()
            except DBAPIError as error:
                raise self.away(error.orig or error) from error
            yield self
        finally:
            self.is_closed = True
            watching.cancel()
            await uninterrupted(self._closing())

    async def _closing(self) -> None:
        await self._places.emptied(self.settings.release_timeout / 2)
        for loan in self._places.loans:
            tell(self.name, loan, self._loop.time())
            self._end(loan)
        try:
            async with asyncio.timeout(self.settings.release_timeout):
                await self._dispose()
        except TimeoutError:
            logger.warning("pool %s could not be closed in good order, and was ended", self.name)
        for driver in self._connections:
            self._terminate(driver)

    @abstractmethod
    async def _open(self) -> None:
        """Make the first connections."""

    @abstractmethod
    async def _dispose(self) -> None:
        """Close those that nobody has."""

    @abstractmethod
    async def _probe(self) -> None:
        """Ask the server anything, on a connection of its own."""

    @abstractmethod
    def _lent(self) -> Loan:
        """Give the loan for which a connection is being taken."""

    @abstractmethod
    def _returned(self, loan: Loan) -> None:
        """Free the place of a loan whose connection is given back."""

    @abstractmethod
    def _answers(self, connection: DBAPIConnection) -> bool:
        """Ask a connection anything, and tell whether it has answered."""

    @abstractmethod
    def _reason(self, error: BaseException, driver: Any, context: ExceptionContext) -> BaseException | None:  # noqa: ANN401 (the driver's connection)
        """Give the error again if it says that the server is away, and settle whether the connection can be kept."""

    def _is_doubtful(self, driver: Any) -> bool:  # noqa: ANN401, ARG002 (the driver's connection; others can tell)
        """Tell whether there is reason to check a connection that was used just now."""
        return False

    @abstractmethod
    def _end(self, loan: Loan) -> None:
        """End a loan's connection, so that who waits for an answer on it waits no longer."""

    @abstractmethod
    def _is_gone(self, driver: Any) -> bool:  # noqa: ANN401 (the driver's connection)
        """Tell whether a connection has been ended, by either side."""

    @abstractmethod
    def _terminate(self, driver: Any) -> None:  # noqa: ANN401 (the driver's connection)
        """End a connection at once."""

    @abstractmethod
    def _driver(self, connection: DBAPIConnection) -> Any:  # noqa: ANN401 (the driver's connection)
        """Give the driver's connection."""
