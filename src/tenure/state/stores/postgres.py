"""
The engine over PostgreSQL: values, numbers, locks and topics that all who know its address share.

Each call is one statement, and so atomic, by the server's clock. All of it is in the schema `tenure`, which is made on
first use. Values and numbers are in an unlogged table: quick, and lost when the server crashes. Locks and their tokens
are not lost: a lock that was granted is held also after a crash, even where the server's `synchronous_commit` is off.

A lock is a row with a lease, and not a session's advisory lock: it needs no connection while it is held, passes through
a pooler such as PgBouncer that gives each transaction another session, and ends by the same rule as in other engines.
An advisory lock would be free at once when its holder dies, but it is lost unheard with its connection.
"""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tenure.errors import DeclarationError, MissingExtra, StateError, StateFull, StateUnavailable
from tenure.state.stores import LONGEST_TTL
from tenure.state.stores.addresses import POSTGRES, postgres_at
from tenure.state.stores.notifications import Notifications, channel_of, parts_of
from tenure.state.stores.whole_numbers import LARGEST, SMALLEST, beyond_64_bits, no_number, within_64_bits

try:
    import asyncpg
    from asyncpg import exceptions

    from tenure.state.stores import statements
    from tenure.state.stores.statements import SWEPT_AT_ONCE, UNMADE, make_tables
except ModuleNotFoundError as error:
    _message = "state that is shared in PostgreSQL needs asyncpg, which is not installed"
    raise MissingExtra(_message, hint="pip install 'tenure[asyncpg]'") from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from tenure.state.engines import Missed
    from tenure.state.stores.notifications import Session

T = TypeVar("T")

DEADLINE = 1.0
"""Seconds after which a call is given up, unless an engine is told otherwise."""
CONNECTIONS = 4
"""How many connections an engine's own pool has at most."""
SWEEP_PAUSE, BATCH_PAUSE = 10.0, 0.05
"""Seconds between two sweeps of what has expired, and between two batches of one."""
PAUSE = 0.02
"""Seconds between two attempts to connect."""
CLOSED = "it was closed from here"

_WHOLE_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")

ABSENT = (
    OSError,
    exceptions.InterfaceError,
    exceptions.PostgresConnectionError,
    exceptions.CannotConnectNowError,
    exceptions.TooManyConnectionsError,
)
"""What tells that there is no connection now, where another attempt may get one."""
FAILURES = (*ABSENT, exceptions.PostgresError, exceptions.InternalClientError)
"""All that asyncpg raises for a server's reasons."""
UNPREPARED = (exceptions.InvalidSQLStatementNameError, exceptions.DuplicatePreparedStatementError)
"""What tells that another session answers than the one that has prepared a statement."""
UNDONE = (exceptions.SerializationError, exceptions.DeadlockDetectedError)
"""What the server takes back for the sake of another transaction, and does when it is asked again."""


class PostgresEngine:
    """
    Keeps shared state in PostgreSQL.

    It serves the event loop in which it was entered, over a few connections of its own or over the pool which the app
    already has, and one more for all subscriptions. They come back by themselves when they were lost. A call waits for
    that within its deadline; once the server has been gone for longer, it says so at once.

    ::

        async with PostgresEngine("postgresql://localhost/roster", deployment="roster") as engine:
            await engine.set("cache:sessions:42", b"...", ttl=60)

    Args:
        dsn: The server's address. With a pool: where topics are listened to; without it, they take one connection out
            of the pool from the first subscription on. That address must lead to PostgreSQL itself, for a pooler that
            gives each transaction another session does not know LISTEN.
        deployment: Stands before all keys and names, so that those of others are others.
        pool: What calls are to go through. It stays the app's: it is not closed here. A call that finds all of its
            connections in use waits for one within its deadline.
        deadline: Seconds after which a call is given up.

    Raises:
        DeclarationError: There is neither pool nor address, or that is no such address.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        deployment: str,
        pool: asyncpg.Pool[Record] | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._name = "that of the app's pool" if dsn is None else postgres_at(dsn)
        if dsn is None and not isinstance(pool, asyncpg.Pool):
            message = "an engine of shared state over PostgreSQL has neither an address nor a pool of asyncpg"
            raise DeclarationError(message, hint=f"{POSTGRES}, or give `pool=`")
        self._dsn = dsn
        self._deployment = deployment
        self._deadline = deadline
        self._pool = pool
        self._owns_pool = pool is None
        self._prepares = True
        self._is_closed = False
        self._gone_since: float | None = None
        self._releasing: set[asyncio.Future[None]] = set()
        self._reason = ""
        self._sweeper: asyncio.Task[None] | None = None
        self._notifications = Notifications(self._listening, (*FAILURES, ValueError), self._name, deadline)

    async def __aenter__(self) -> Self:
        """
        Reach the server, and make what is missing of the schema `tenure`.

        Raises:
            StateUnavailable: It does not answer, or does not let the tables be made.
            StateMismatch: The tables are another version's.
            DeclarationError: The address has something that asyncpg does not know.
        """
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._dsn, min_size=0, max_size=CONNECTIONS, reset=_leave, **self._connecting()
            )
        try:
            if self._owns_pool:
                await self._pool
            await self._with_session(make_tables)
        except BaseException:
            await self.close()
            raise
        self._sweeper = asyncio.create_task(self._sweep(), name="tenure: sweeps what has expired")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections; who iterates over messages comes to the end of them."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self._notifications.close()
        if self._pool is not None and self._owns_pool:
            try:
                async with asyncio.timeout(self._deadline):
                    await self._pool.close()
            except (TimeoutError, *FAILURES):
                self._pool.terminate()

    async def get(self, key: str) -> bytes | None:
        """Give a value, or nothing when there is none or it has expired."""
        found = await self._do(statements.GET, self._deployment, key.encode())
        if not found:
            return None
        value, number = found[0]
        return b"%d" % number if value is None else bytes(value)

    async def set(self, key: str, value: bytes, *, ttl: float | None) -> None:
        """Keep a value for `ttl` seconds, or until it is deleted or the server has crashed."""
        number = int(value) if _WHOLE_NUMBER.fullmatch(value) else None
        if number is not None and not SMALLEST <= number <= LARGEST:
            number = None
        kept = value if number is None else None
        await self._do(statements.SET, self._deployment, key.encode(), kept, number, _seconds(ttl))

    async def delete(self, key: str) -> bool:
        """Delete a value, and tell whether there was one."""
        deleted = await self._do(statements.DELETE, self._deployment, key.encode())
        return bool(deleted and deleted[0][0])

    async def keep(self, key: str, value: bytes) -> None:
        """Keep a value for good: it is on disk when this returns."""
        await self._do(statements.KEEP, self._deployment, key.encode(), value)

    async def kept(self, key: str) -> bytes | None:
        """Give what `keep` has kept, or nothing."""
        found = await self._do(statements.KEPT, self._deployment, key.encode())
        return bytes(found[0][0]) if found else None

    async def increment(self, key: str, by: int, *, ttl: float | None) -> int:
        """
        Add to a number in one atomic step, and give the new one; the first add begins at 0 and sets the expiry.

        Raises:
            StateMismatch: What is kept there is not a whole number.
            StateFull: The number would leave 64 bits. It is as it was.
        """
        within_64_bits(by, key)
        added = await self._do(statements.INCREMENT, self._deployment, key.encode(), by, _seconds(ttl))
        if not added:
            raise no_number(key)
        return int(added[0][0])

    async def acquire(self, name: str, *, holder: str, lease: float) -> int | None:
        """Take a lock for `lease` seconds, unless another holder has it; give a token above all before."""
        taken = await self._do(statements.ACQUIRE, self._deployment, name.encode(), holder, _seconds(lease))
        return int(taken[0][0]) if taken else None

    async def renew(self, name: str, *, holder: str, lease: float) -> bool:
        """Hold a lock for `lease` seconds from now, and tell whether it was still held."""
        return bool(await self._do(statements.RENEW, self._deployment, name.encode(), holder, _seconds(lease)))

    async def release(self, name: str, *, holder: str) -> None:
        """Give a lock back, if it is still held by this holder."""
        await self._do(statements.RELEASE, self._deployment, name.encode(), holder)

    async def publish(self, topic: str, message: bytes) -> None:
        """Send a message to all who are subscribed now."""
        await self._do(statements.PUBLISH, channel_of(self._deployment, topic), parts_of(message))

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncGenerator[AsyncIterator[bytes | Missed]]:
        """Receive what is published from the enter on, with `MISSED` where something may have been lost."""
        async with AsyncExitStack() as stack:
            if self._is_closed:
                raise self._unavailable(CLOSED)
            channel = channel_of(self._deployment, topic)
            try:
                messages = await stack.enter_async_context(self._notifications.subscribe(channel))
            except TimeoutError as error:
                raise self._unavailable(
                    self._notifications.reason or self._silence(was_asked=self._dsn is not None)
                ) from error
            yield messages

    async def _do(self, statement: str, *arguments: object) -> list[Record]:
        return await self._with_session(lambda session: session.fetch(statement, *arguments))

    async def _with_session(self, ask: Callable[[Session], Awaitable[T]]) -> T:
        """
        Ask over a connection of the pool, within the deadline.

        What the server took back is asked again, and tables that are gone, with all else of a new server, are made.
        """
        until = asyncio.get_running_loop().time() + self._deadline
        was_asked = False
        try:
            async with asyncio.timeout_at(until):
                while True:
                    try:
                        async with self._borrowed(until) as session:
                            was_asked = True
                            return await ask(session)
                    except UNDONE:
                        continue
                    except UNPREPARED:
                        if not await self._prepares_no_more():
                            raise
                    except UNMADE:
                        async with self._borrowed(until) as session:
                            await make_tables(session)
        except TimeoutError as error:
            raise self._unavailable(self._reason or self._silence(was_asked=was_asked)) from error
        except FAILURES as error:
            raise self._refusal(error) from error

    def _connecting(self) -> dict[str, Any]:
        options = {"timeout": self._deadline, "command_timeout": self._deadline}
        return options if self._prepares else {**options, "statement_cache_size": 0}

    async def _prepares_no_more(self) -> bool:
        """
        Keep no prepared statements from now on, which takes longer; tells whether that is for this engine to say.

        A pooler such as PgBouncer may give each transaction another session, where such a statement is not known.
        """
        if self._pool is None or not self._owns_pool:
            return False
        self._prepares = False
        self._pool.set_connect_args(self._dsn, **self._connecting())
        await self._pool.expire_connections()
        return True

    @asynccontextmanager
    async def _borrowed(self, until: float) -> AsyncGenerator[PoolConnectionProxy[Record]]:
        pool, session = await self._connected()
        try:
            yield session
        except BaseException as error:
            # A server that is silent or no longer in charge must not be met again over the same connection.
            is_late = asyncio.get_running_loop().time() >= until
            if is_late or isinstance(error, exceptions.ReadOnlySQLTransactionError):
                _end(session)
            raise
        finally:
            releasing = asyncio.ensure_future(self._release(pool, session))
            self._releasing.add(releasing)
            releasing.add_done_callback(self._releasing.discard)
            await asyncio.shield(releasing)  # goes on, and sees its own errors, when the call is given up meanwhile

    async def _release(self, pool: asyncpg.Pool[Record], session: PoolConnectionProxy[Record]) -> None:
        with suppress(TimeoutError, *FAILURES):  # a connection that cannot be given back is ended by the pool
            await pool.release(session, timeout=self._deadline)

    async def _connected(self) -> tuple[asyncpg.Pool[Record], PoolConnectionProxy[Record]]:
        """Wait for a connection: while the server was lost just now, it may be about to come back."""
        loop = asyncio.get_running_loop()
        while True:
            if self._is_closed or self._pool is None:
                raise exceptions.InterfaceError(CLOSED)
            try:
                session = await self._pool.acquire()
            except ValueError as error:
                message = f"the address of the engine of shared state is not one that asyncpg takes: {error}"
                raise DeclarationError(message, hint=POSTGRES) from error
            except ABSENT as error:
                self._reason = _first_line(error)
                self._gone_since = self._gone_since or loop.time()
                if loop.time() - self._gone_since > self._deadline:
                    raise
                await asyncio.sleep(PAUSE)
            else:
                self._reason, self._gone_since = "", None
                return self._pool, session

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[Session]:
        """Give a connection to listen on; it is not used for anything else afterwards."""
        async with asyncio.timeout(self._deadline):
            if self._dsn is not None:
                session: Session = await asyncpg.connect(self._dsn, command_timeout=self._deadline)
            else:
                _, session = await self._connected()
        try:
            yield session
        finally:
            _end(session)

    async def _sweep(self) -> None:
        """Delete what has expired, little by little, so that nobody has to wait for it."""
        while True:
            for sweep in statements.SWEEPS:
                with suppress(StateError):
                    while (await self._do(sweep))[0][0] == SWEPT_AT_ONCE:  # noqa: ASYNC110 (no event tells of it)
                        await asyncio.sleep(BATCH_PAUSE)
            await asyncio.sleep(SWEEP_PAUSE * random.uniform(0.5, 1))  # noqa: S311 (no secret: not all at once)

    def _silence(self, *, was_asked: bool) -> str:
        pool = self._pool
        is_full = pool is not None and pool.get_size() == pool.get_max_size() and not pool.get_idle_size()
        if pool is not None and is_full and not was_asked and not self._owns_pool:
            return f"none of the {pool.get_size()} connections of its pool was free within {self._deadline:g} s"
        return f"it did not answer within {self._deadline:g} s"

    def _unavailable(self, reason: str) -> StateUnavailable:
        message = f"the PostgreSQL at {self._name} cannot be used: {reason}"
        return StateUnavailable(message, hint="see that it runs; what was not answered may have been done or not")

    def _refusal(self, error: Exception) -> StateError:
        if isinstance(error, exceptions.NumericValueOutOfRangeError):
            return beyond_64_bits()
        if isinstance(error, exceptions.DiskFullError):
            message = f"the PostgreSQL at {self._name} is full: {_first_line(error)}"
            return StateFull(message, hint="give it more room")
        if isinstance(error, exceptions.InsufficientPrivilegeError):
            message = f"the PostgreSQL at {self._name} does not let its user share state: {_first_line(error)}"
            hint = "let its user make and use the schema `tenure`: `CREATE SCHEMA tenure AUTHORIZATION …`"
            return StateUnavailable(message, hint=hint)
        return self._unavailable(_first_line(error))


async def _leave(session: object) -> None:
    """Leave a connection as it is: no statement here changes more of it than its own transaction."""
    del session


def _end(session: Session) -> None:
    with suppress(exceptions.InterfaceError):  # it has ended by itself
        session.terminate()


def _seconds(given: float | None) -> float | None:
    return None if given is None else min(given, LONGEST_TTL)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
