"""What guards the connections of an SQLAlchemy engine, with or without an event loop: who has one, and is it well."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from tenure.pools.base import BasePool
from tenure.pools.errors import transaction_failed
from tenure.pools.sites import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection, PoolProxiedConnection

    from tenure.pools.places import Loan
    from tenure.pools.settings import PoolSettings
    from tenure.pools.sites import Site

logger = logging.getLogger("tenure")

USED = "tenure_used"
"""Where a connection's record says when it was last used."""
LOAN = "tenure_loan"
"""Where it says who has it."""
FAILED = "tenure_failed"
"""Where it says which statement has failed since it was borrowed, and perhaps its transaction."""
IN_FAILED = "25P02"
"""What PostgreSQL says to a statement of a transaction that had failed before."""


def note(connection: ManagesConnection, loan: Loan | None) -> None:
    """Note who has a connection, with its place in SQLAlchemy's pool."""
    if connection.record_info is not None:  # as it is when it is detached from the pool
        connection.record_info[LOAN] = loan


def noted(connection: ManagesConnection) -> Loan | None:
    """Give who has it."""
    return None if connection.record_info is None else connection.record_info.get(LOAN)


class EnginePool(BasePool["PoolSettings"]):
    """
    The connections of an SQLAlchemy engine, of which none is waited for without end; ``Depends(database.pool)``.

    SQLAlchemy's own pool keeps the connections. It is asked for one only by who has a place, and each that it gives is
    known to be alive.
    """

    def __init__(self, name: str, settings: PoolSettings, size: int) -> None:
        super().__init__(name, settings, size)
        self._connections: set[Any] = set()

    def holding(self) -> Loan | None:
        """Give what the task that runs has borrowed already."""
        task = asyncio.current_task()
        return next((loan for loan in self._places.loans if loan.task is task), None)

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
            "commit": self._on_commit,
            "rollback": self._on_rollback,
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
        is_doubtful = not self._is_trusted(used, self.settings.check_after) or self._is_doubtful(driver)
        if self._is_gone(driver) or (is_doubtful and not self._answers(connection)):
            self._terminate(driver)
            msg = "it is closed, or does not answer"
            raise DisconnectionError(msg)

    def _on_checkin(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[USED] = self._loop.time()
        record.info.pop(FAILED, None)
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
        self.heard()

    def _on_error(self, context: ExceptionContext) -> Exception | None:
        """Say what an error means: that the server is away, or something for the program, which passes unchanged."""
        context.invalidate_pool_on_disconnect = False  # each is looked at when it is borrowed
        error = context.original_exception
        driver = None
        if context.connection is not None and not (context.connection.closed or context.connection.invalidated):
            driver = context.connection.connection.driver_connection
            if getattr(error, "sqlstate", None) != IN_FAILED or FAILED not in context.connection.info:
                context.connection.info[FAILED] = self._where()
        reason = self._reason(error.__cause__ or error, driver, context)
        if reason is not None:
            return self.unreachable(reason)
        if isinstance(error, Exception):  # and no cancellation
            self.heard()
        return None

    def _on_commit(self, connection: Connection) -> None:
        """Refuse a commit by which nothing would be committed, and nobody told."""
        if connection.closed or connection.invalidated or FAILED not in connection.info:
            return
        driver, where = connection.connection.dbapi_connection, connection.info[FAILED]
        try:
            has_failed = driver is not None and self._has_failed(driver)
        except BaseException:
            self._undo(connection)
            raise
        if has_failed:
            self._undo(connection)
            raise transaction_failed(self.name, [f"failed at {shown(where)}"])
        del connection.info[FAILED]

    def _undo(self, connection: Connection) -> None:
        """Roll back; for SQLAlchemy takes a transaction whose commit has raised for one that the server has ended."""
        self._on_rollback(connection)
        try:
            connection.connection.rollback()
        except connection.dialect.loaded_dbapi.Error as error:
            connection.invalidate(error)

    def _on_rollback(self, connection: Connection) -> None:
        if not (connection.closed or connection.invalidated):
            connection.info.pop(FAILED, None)

    def _count(self) -> int:
        return len(self._connections)

    async def _open(self) -> None:
        try:
            await self._fill(min(self.settings.min_size, self._places.size))
        except DBAPIError as error:
            raise self.unreachable(error.orig or error) from error

    async def _close(self, left: list[Loan]) -> None:
        for loan in left:
            self._end(loan)
        try:
            async with asyncio.timeout(self.settings.release_timeout):
                await self._dispose()
        except TimeoutError:
            logger.warning(
                "pool %s could not be closed in good order, and was ended",
                self.name,
                extra={"tenure_event": "pool-close-failed", "tenure_pool": self.name},
            )
        for driver in self._connections:
            self._terminate(driver)

    @abstractmethod
    async def _fill(self, count: int) -> None:
        """Make the first connections."""

    @abstractmethod
    async def _dispose(self) -> None:
        """Close those that nobody has."""

    @abstractmethod
    def _lent(self) -> Loan:
        """Give the loan for which a connection is being taken."""

    @abstractmethod
    def _where(self) -> Site:
        """Give where the program has called what runs."""

    @abstractmethod
    def _returned(self, loan: Loan) -> None:
        """Free the place of a loan whose connection is given back."""

    @abstractmethod
    def _answers(self, connection: DBAPIConnection) -> bool:
        """Ask a connection anything, and tell whether it has answered."""

    @abstractmethod
    def _has_failed(self, connection: DBAPIConnection) -> bool:
        """
        Tell whether the transaction of a connection has failed, so that it can only be rolled back.

        Raises:
            Unreachable: The server, which has to be asked, is away.
        """

    @abstractmethod
    def _reason(self, error: BaseException, driver: Any, context: ExceptionContext) -> BaseException | None:  # noqa: ANN401 (the driver's connection)
        """Give the error again if it says that the server is away, and settle whether the connection can be kept."""

    def _is_doubtful(self, driver: Any) -> bool:  # noqa: ANN401, ARG002 (the driver's connection; others can tell)
        """Tell whether there is reason to check a connection that was used just now."""
        return False

    @abstractmethod
    def _is_gone(self, driver: Any) -> bool:  # noqa: ANN401 (the driver's connection)
        """Tell whether a connection has been ended, by either side."""

    @abstractmethod
    def _terminate(self, driver: Any) -> None:  # noqa: ANN401 (the driver's connection)
        """End a connection at once."""

    @abstractmethod
    def _driver(self, connection: DBAPIConnection) -> Any:  # noqa: ANN401 (the driver's connection)
        """Give the driver's connection."""
