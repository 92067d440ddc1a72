"""A pool of asyncpg connections in which no wait is without end."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from tenure.cancellation import uninterrupted
from tenure.pools.asyncpg_connection import Connection
from tenure.pools.asyncpg_pin import AWAY, Pin, is_gone, pinned, pinning
from tenure.pools.base import CHECK, BasePool
from tenure.pools.sites import site

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from asyncpg.transaction import Transaction

    from tenure.pools.places import Loan
    from tenure.pools.settings import PoolSettings
    from tenure.pools.sites import Site

logger = logging.getLogger("tenure")

_CONNECT = frozenset(inspect.signature(asyncpg.connect).parameters)


class Pool(BasePool["PoolSettings"]):
    """
    A pool of asyncpg connections in which no wait is without end; made by `pool`, injected by ``Depends(database)``.

    Belongs to one app, process and event loop.
    """

    def __init__(self, name: str, settings: PoolSettings, size: int) -> None:
        super().__init__(name, settings, size)
        options: dict[str, Any] = {
            "min_size": min(settings.min_size, size),
            "max_size": size,
            "command_timeout": settings.command_timeout,
            "timeout": settings.acquire_timeout,
            **settings.options,
        }
        self.driver_pool: asyncpg.Pool = asyncpg.create_pool(settings.dsn, **options)
        self._used: dict[int, float] = {}
        self._releases: set[asyncio.Future[None]] = set()
        self._is_open = False

    @asynccontextmanager
    async def borrow(self, *, timeout: float | None = None, separate: bool = False) -> AsyncGenerator[Connection]:
        """
        Hold one connection for a block, for what needs the same one throughout; it is borrowed at once.

        Where one is held here already, by the request's transaction or a block around, it is that one. With `separate`
        it is another: its transaction is none of theirs. That cannot deadlock, for it is refused where all who hold a
        connection wait for another.

        Args:
            timeout: Seconds to wait; the pool's `acquire_timeout` unless given.
            separate: Whether it must be a connection of its own.

        Raises:
            PoolExhausted: None was free in time.
            NestedBorrow: All who hold one wait for another.
            Unreachable: The server is away.
        """
        held = pinned(self)
        if held is not None and not separate:
            yield Connection(self, held)
            return
        async with pinning(Pin(self, within=held), site(), timeout) as pin:
            yield Connection(self, pin)

    async def lend(self, site: Site, *, timeout: float | None = None, holding: Loan | None = None) -> Loan:
        """Take a connection that works; `holding` is what the borrower has already."""
        until = self._loop.time() + (self.settings.acquire_timeout if timeout is None else timeout)
        loan = await self.place(site, timeout=timeout, holding=holding)
        try:
            await self._connect(loan, until)
        except BaseException as error:
            self._places.give_back(loan, error)
            raise
        self._places.lent(loan)
        return loan

    async def _connect(self, loan: Loan, until: float) -> None:
        while True:
            try:
                async with asyncio.timeout_at(until) as loan.deadline:
                    connection = await self.driver_pool.acquire()
            except (*AWAY, asyncpg.InterfaceError) as error:
                self.refuse_closed()
                raise self.unreachable(error) from error
            finally:
                loan.deadline = None
            if await self._is_well(connection):
                loan.connection = connection
                return

    async def _is_well(self, connection: Any) -> bool:  # noqa: ANN401 (asyncpg's connection)
        """Check a connection that has been idle for long, or that was there when the server was silent."""
        if self._is_trusted(self._used.get(connection.get_server_pid()), self.settings.check_after):
            return True
        try:
            await connection.fetchval("SELECT 1", timeout=CHECK)
        except BaseException as error:
            _terminate(connection)
            await uninterrupted(self._released(connection))
            if isinstance(error, Exception):
                return False
            raise
        return True

    async def take_back(self, loan: Loan) -> None:
        """Give a connection back, in the background where the caller is cancelled meanwhile; end it if that is late."""
        # A task of ours, although asyncpg makes one: it keeps the place until it has ended, whoever is cancelled.
        release = asyncio.ensure_future(self._taken_back(loan))
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)
        await asyncio.shield(release)

    async def _taken_back(self, loan: Loan) -> None:
        connection, loan.connection = loan.connection, None
        pid = None if is_gone(connection) else connection.get_server_pid()
        try:
            await self._released(connection)
        finally:
            if pid is not None:
                self._note_use(pid)
            self._places.give_back(loan)

    async def _released(self, connection: Any) -> None:  # noqa: ANN401 (asyncpg's connection)
        try:
            await self.driver_pool.release(connection, timeout=self.settings.release_timeout)
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _terminate(connection)
            self._killed += 1
            logger.warning(
                "a connection of pool %s could not be given back, and was ended: %r",
                self.name,
                error,
                extra={"tenure_event": "connection-ended", "tenure_pool": self.name},
            )

    def _note_use(self, pid: int) -> None:
        self._used.pop(pid, None)
        self._used[pid] = self._loop.time()
        if len(self._used) > 4 * self._places.size:
            del self._used[next(iter(self._used))]

    async def undo(self, loan: Loan, transaction: Transaction) -> None:
        """Roll back, or end the connection where that cannot be done in time."""
        if is_gone(loan.connection):
            return
        try:
            async with asyncio.timeout(self.settings.release_timeout):
                await transaction.__aexit__(asyncpg.PostgresError, None, None)  # as where its block has raised
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _terminate(loan.connection)
            logger.warning(
                "a transaction of pool %s was ended, as it could not roll back: %r",
                self.name,
                error,
                extra={"tenure_event": "connection-ended", "tenure_pool": self.name},
            )

    async def _probe(self) -> None:
        options = {key: value for key, value in self.settings.options.items() if key in _CONNECT}
        connection = await asyncpg.connect(self.settings.dsn, **options)
        await connection.close()

    def _count(self) -> int:
        return self.driver_pool.get_size()

    async def _open(self) -> None:
        try:
            await self.driver_pool
        except (*AWAY, asyncpg.PostgresError) as error:
            raise self.unreachable(error) from error
        self._is_open = True

    async def _close(self, left: list[Loan]) -> None:
        if left:
            self.driver_pool.terminate()
        elif self._is_open:
            try:
                async with asyncio.timeout(self.settings.release_timeout):
                    await self.driver_pool.close()
            except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self.driver_pool.terminate()
                logger.warning(
                    "pool %s could not be closed in good order, and was ended: %r",
                    self.name,
                    error,
                    extra={"tenure_event": "pool-close-failed", "tenure_pool": self.name},
                )

    def _end(self, loan: Loan) -> None:
        if loan.connection is not None:
            _terminate(loan.connection)
        self._give_up(loan)


def _terminate(connection: Any) -> None:  # noqa: ANN401 (asyncpg's connection)
    with suppress(asyncpg.InterfaceError):  # the driver has ended it, and taken it back
        connection.terminate()
