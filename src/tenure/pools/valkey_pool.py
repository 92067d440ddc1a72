"""A pool of redis-py connections in which no wait is without end, and from which cancellation takes nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import ConnectionError as DriverConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as DriverTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from tenure.cancellation import uninterrupted
from tenure.errors import DeclarationError
from tenure.pools.base import CHECK, BasePool
from tenure.pools.errors import PoolExhausted, Unreachable
from tenure.pools.sites import site
from tenure.pools.twins import twin
from tenure.state.stores.addresses import refuse_misread
from tenure.state.stores.wire import SCHEMES

if TYPE_CHECKING:
    from tenure.pools.places import Loan
    from tenure.pools.settings import PoolSettings

logger = logging.getLogger("tenure")

AWAY = (DriverConnectionError, DriverTimeoutError)
"""What redis-py raises when the server is away, restarting, full or silent: no mistake of the program's."""
TOLD = "the store does not answer at the moment"


class _Lent(AbstractConnection):
    """What a connection is that the pool lends, whatever leads to the server."""

    pool: ValkeyPool
    loan: Loan | None = None
    used: float | None = None
    """When it was given back; None while it has not been since it was opened."""

    async def send_packed_command(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (as redis-py has them)
        try:
            await super().send_packed_command(*args, **options)
        except AWAY as error:
            raise self.pool.away(error) from error

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (likewise)
        try:
            response = await super().read_response(*args, **options)
        except AWAY as error:
            raise self.pool.away(error) from error
        except ResponseError:
            self.pool.heard()
            raise
        if response is not None:  # which may say that nothing came
            self.pool.heard()
        return response


class _Tcp(_Lent, Connection):
    pass


class _Tls(_Lent, SSLConnection):
    pass


class _Unix(_Lent, UnixDomainSocketConnection):
    pass


KINDS: dict[type[AbstractConnection], type[_Lent]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


class ValkeyPool(BasePool["PoolSettings"], ConnectionPool):
    """
    Connections of a client of Valkey, none of which is waited for without end; ``Depends(store.pool)``.

    A command has a connection for as long as it runs, a pipeline while it is executed or watches, a subscription for
    as long as it lasts.

    Belongs to one app, process and event loop.
    """

    def __init__(self, name: str, settings: PoolSettings, size: int) -> None:
        BasePool.__init__(self, name, settings, size)
        self._kind, options = _options(settings)
        ConnectionPool.__init__(self, self._kind, size, MaintNotificationsConfig(enabled=False), **options)
        self._made: list[_Lent] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> _Lent:  # noqa: ANN401, ARG002 (redis-py's)
        """Take a connection that works, as redis-py does for each command."""
        until = self._loop.time() + self.settings.acquire_timeout
        try:
            loan = await self.place(site())
        except PoolExhausted as error:
            raise twin(error, DriverConnectionError) from None
        except Unreachable as error:
            raise twin(error, DriverConnectionError, told=TOLD) from None
        try:
            async with asyncio.timeout_at(until) as loan.deadline:
                connection = await self._connected()
        except BaseException as error:
            self._places.give_back(loan, error)
            if isinstance(error, TimeoutError):
                raise self.away(DriverTimeoutError("a connection was not opened in time")) from error
            if isinstance(error, AWAY):
                raise self.away(error) from error
            raise
        loan.connection, connection.loan = connection, loan
        self._places.lent(loan)
        return connection

    async def _connected(self) -> _Lent:
        connection: Any = await ConnectionPool.get_connection(self)  # type: ignore[no-untyped-call] # a gap in redis-py's types
        try:
            if not await self._is_well(connection):
                await connection.disconnect(nowait=True)
                await connection.connect()
        except BaseException:
            await self.release(connection)
            raise
        given: _Lent = connection
        return given

    async def _is_well(self, connection: _Lent) -> bool:
        """Check a connection that has been idle for long, or that was there when the server was silent."""
        used, connection.used = connection.used, None
        if self._is_trusted(used, self.settings.check_after):
            return True
        try:
            async with asyncio.timeout(CHECK):
                await connection.send_command("PING", check_health=False)
                await connection.read_response()
        except (TimeoutError, RedisError):
            return False
        return True

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back, as redis-py does after each command."""
        await uninterrupted(self._released(connection))

    async def _released(self, connection: Any) -> None:  # noqa: ANN401 (one of ours)
        loan, connection.loan = connection.loan, None
        connection.used = self._loop.time() if connection.is_connected else None
        try:
            await ConnectionPool.release(self, connection)
        finally:
            if loan is not None:
                self._places.give_back(loan)

    def make_connection(self) -> _Lent:
        """Make a connection that is not open yet."""
        connection = self._new()
        self._made.append(connection)
        return connection

    def _new(self) -> _Lent:
        connection = self._kind(**self.connection_kwargs)
        connection.pool = self
        return connection

    def away(self, error: RedisError) -> RedisError:
        """Say that the server is away, by an error that redis-py has for it and FastAPI answers 503."""
        if isinstance(error, Unreachable):
            return error
        return twin(self.unreachable(error), type(error), told=TOLD)

    async def _probe(self) -> None:
        connection = self._new()
        try:
            await connection.connect()  # type: ignore[no-untyped-call] # a gap in redis-py's types
            await connection.send_command("PING", check_health=False)
            await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)

    def _end(self, loan: Loan) -> None:
        if loan.connection is not None:
            ending = asyncio.create_task(loan.connection.disconnect(nowait=True))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        self._give_up(loan)

    def _count(self) -> int:
        return sum(connection.is_connected for connection in self._made)

    async def _open(self) -> None:
        first = [await self.get_connection() for _ in range(min(self.settings.min_size, self._places.size))]
        for connection in first:
            await self.release(connection)

    async def _close(self, left: list[Loan]) -> None:
        del left  # redis-py ends those as well
        try:
            async with asyncio.timeout(self.settings.release_timeout):
                await self.disconnect()
        except (TimeoutError, RedisError, OSError) as error:
            self._killed += 1
            logger.warning(
                "pool %s could not be closed in good order: %r",
                self.name,
                error,
                extra={"tenure_event": "pool-close-failed", "tenure_pool": self.name},
            )


def _options(settings: PoolSettings) -> tuple[type[_Lent], dict[str, Any]]:
    """Give what leads to the server, and what redis-py is told of it."""
    options: dict[str, Any] = {
        "socket_timeout": settings.command_timeout,
        "socket_connect_timeout": settings.acquire_timeout,
        "driver_info": None,  # redis-py would read its version from disk, in the event loop
    }
    scheme, _, rest = settings.dsn.partition("://")
    like = "write `valkey://user:password@host:6379/0`, `valkeys://` for TLS, or `unix:///path/of/socket`"
    refuse_misread(settings.dsn, "an address that a client was given", like)
    try:
        options |= {**parse_url(f"{SCHEMES.get(scheme.lower(), '')}://{rest}"), **settings.options}
        kind = KINDS[options.pop("connection_class", Connection)]
        kind(**options)  # opens nothing, but says what it does not know
    except (KeyError, ValueError, TypeError, RedisError) as error:
        msg = "a client was given an address or options that are none of a Valkey or Redis server"
        raise DeclarationError(msg, hint=like) from error
    return kind, options
