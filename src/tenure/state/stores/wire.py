"""A connection to Valkey that all tasks of an event loop share, opened and read by redis-py: none waits its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tenure.errors import DeclarationError, MissingExtra
from tenure.state.stores.addresses import refuse_misread

try:
    from redis.asyncio.connection import Connection, parse_url
    from redis.exceptions import (
        ClusterDownError,
        NoScriptError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisError,
        ResponseError,
    )
except ModuleNotFoundError as error:
    _message = "state that workers share needs redis-py, which is not installed"
    raise MissingExtra(_message, hint="pip install 'tenure[state]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

Word = bytes | str | int
Awaited = deque["asyncio.Future[Any]"]

SCHEMES = {"valkey": "redis", "valkeys": "rediss", "redis": "redis", "rediss": "rediss", "unix": "unix"}
"""How an address may begin, and what redis-py calls it."""
PAUSE = 0.02
"""Seconds between two attempts to connect."""
LISTENS = 5
"""Turns of the event loop within which it reads what has come, and hands it on."""
CLOSED = "it was closed from here"
_LIKE = "write it like `valkey://user:password@host:6379/0`, `valkeys://` for TLS, or `unix:///path/of/socket`"


class Unanswered(Exception):
    """A command has no answer, and whether it was done is not known."""


class Refused(Exception):
    """The server says that it will not do a command."""


class UnknownScript(Refused):
    """The server has not seen this script since it started."""


class OutOfMemory(Refused):
    """The server keeps as much as it may."""


class NotInCharge(Refused):
    """The server takes no writes: another has become the one that does."""


REFUSALS: dict[type[ResponseError], type[Refused]] = {
    NoScriptError: UnknownScript,
    OutOfMemoryError: OutOfMemory,
    ReadOnlyError: NotInCharge,
    ClusterDownError: NotInCharge,
    ResponseError: Refused,
}


class Server:
    """
    A Valkey or Redis server, by its address.

    Args:
        url: ``valkey://``, ``valkeys://`` (with TLS), ``redis://``, ``rediss://`` or ``unix://``, as redis-py has them.
        deadline: Seconds that opening a connection may take.

    Raises:
        DeclarationError: That is no such address.
    """

    def __init__(self, url: str, deadline: float) -> None:
        scheme, _, rest = url.partition("://")
        refuse_misread(url, "the address of the engine of shared state", _LIKE)
        try:
            options: dict[str, Any] = dict(parse_url(f"{SCHEMES.get(scheme.lower(), '')}://{rest}"))
            parts = urlsplit(url)
            self.name = parts.path if scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
            # Whatever the address says: a connection that many share waits for news without end, and for bytes.
            options |= {"socket_timeout": None, "socket_connect_timeout": deadline, "health_check_interval": 0}
            options |= {"decode_responses": False, "protocol": 2}
            options["driver_info"] = None  # redis-py would read its version from disk, in the event loop
            self._kind: type[AbstractConnection] = options.pop("connection_class", Connection)
            self._options = options
            self._kind(**options)  # opens nothing, but says what it does not know
        except (ValueError, TypeError, RedisError) as error:
            message = "the address of the engine of shared state is not one of a Valkey or Redis server"
            raise DeclarationError(message, hint=_LIKE) from error
        self._deadline = deadline

    async def connect(self) -> AbstractConnection:
        """
        Open a connection, and log in.

        Raises:
            Unanswered: It cannot be opened, or not in time.
        """
        connection = self._kind(**self._options)
        try:
            async with asyncio.timeout(self._deadline):
                await connection.connect()  # type: ignore[no-untyped-call]  # a gap in redis-py's types
                await connection.send_command("PING", check_health=False)
                await connection.read_response()  # an error while the server still reads its data
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            message = "it says nothing to a new connection"
            raise Unanswered(message) from error
        except (OSError, RedisError) as error:
            await connection.disconnect(nowait=True)
            raise Unanswered(str(error)) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


class Wire:
    """
    An open connection: what is put on it is sent in that order, as much at once as there is.

    Args:
        connection: Open, and nobody else's.
        receive: What takes each answer, also when it is an error.
        lost: What is told, once, why the connection has ended; not when it was closed from here.
    """

    def __init__(
        self, connection: AbstractConnection, receive: Callable[[Any], object], lost: Callable[[str], object]
    ) -> None:
        self._connection = connection
        self._receive = receive
        self._lost = lost
        self._outgoing: list[bytes] = []
        self._news = asyncio.Event()
        self.heard = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._run(), name="tenure: a connection to Valkey")

    def put(self, *words: Word) -> None:
        """Send a command, as soon as the event loop gets to it."""
        self._outgoing += self._connection.pack_command(*words)
        self._news.set()

    async def close(self) -> None:
        """End the connection."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        reason = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_all())
                group.create_task(self._receive_all())
        except* Exception as errors:  # noqa: BLE001 (nothing more comes; uvloop has a RuntimeError for what is lost)
            reason = str(errors.exceptions[0])
        finally:
            with suppress(OSError, RedisError, RuntimeError):
                await self._connection.disconnect(nowait=True)
        self._lost(reason)

    async def _send_all(self) -> None:
        while await self._news.wait():
            self._news.clear()
            outgoing, self._outgoing = self._outgoing, []
            await self._connection.send_packed_command(outgoing, check_health=False)

    async def _receive_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                answer = await self._connection.read_response(disable_decoding=True)
            except ResponseError as error:
                answer = error
            self.heard = loop.time()
            self._receive(answer)


class Line:
    """
    Questions and answers over one connection, which is opened when it is needed and again when it was lost.

    Tasks ask at the same time: none waits for the answer of another. A task that stops waiting disturbs nobody.

    Args:
        server: Whom to ask.
        deadline: Seconds after which a server that does not answer is taken for gone.
    """

    def __init__(self, server: Server, deadline: float) -> None:
        self._server = server
        self._deadline = deadline
        self._wire: Wire | None = None
        self._awaited: Awaited = deque()
        self._attempt: asyncio.Task[None] | None = None
        self._lost_at: float | None = None
        self._reason = ""
        self._asked = 0.0
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def ask(self, *words: Word, until: float) -> Any:  # noqa: ANN401 (what Valkey answers)
        """
        Give the answer to a command.

        Args:
            words: The command.
            until: When to give up, on the clock of the event loop.

        Raises:
            Unanswered: There is none by then, or the connection was lost before.
            Refused: The server says that it will not.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        wire: Wire | None = None
        try:
            async with asyncio.timeout_at(until):
                if self._is_overdue():
                    await self._replaced()
                wire = self._wire or await self._opened()
                answer: asyncio.Future[Any] = loop.create_future()
                wire.put(*words)  # first: what cannot be written has no answer, and must not have another's
                if not self._awaited:
                    self._asked = loop.time()
                self._awaited.append(answer)
                return await answer
        except TimeoutError:
            if wire is not None and wire is self._wire and wire.heard < began:
                # Not slow but silent: the connection may be dead without either end knowing.
                self._drop(wire, "it has fallen silent")
            raise Unanswered(self._reason or f"it did not answer within {self._deadline:g} s") from None

    def _is_overdue(self) -> bool:
        """Tell whether the server owes an answer for too long, though none of those who asked may still wait for it."""
        wire = self._wire
        silent = asyncio.get_running_loop().time() - self._deadline
        return wire is not None and bool(self._awaited) and max(wire.heard, self._asked) < silent

    async def _replaced(self) -> None:
        """Give a connection up that is silent, unless this process is what has not listened."""
        for _ in range(LISTENS):
            await asyncio.sleep(0)
        if self._wire is not None and self._is_overdue():
            self._drop(self._wire, "it has fallen silent")

    def renew(self) -> None:
        """Let the next call open another connection; who still waits is told."""
        if self._wire is not None:
            self._drop(self._wire, CLOSED)

    async def close(self) -> None:
        """End the connection; who still waits is told."""
        self._is_closed = True
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        self.renew()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _opened(self) -> Wire:
        """Wait for a connection: while it was lost just now, its server may be about to come back."""
        loop = asyncio.get_running_loop()
        while self._wire is None:
            if self._is_closed:
                raise Unanswered(CLOSED)
            if self._attempt is None:
                self._lost_at = self._lost_at or loop.time()
                self._attempt = asyncio.create_task(self._open(), name="tenure: connecting to Valkey")
            attempt = self._attempt
            await asyncio.wait([attempt])  # shared by all who wait: the one that began it may leave
            if self._wire is None and not attempt.cancelled():
                if self._lost_at is not None and loop.time() - self._lost_at > self._deadline:
                    raise Unanswered(self._reason)
                await asyncio.sleep(PAUSE)
        return self._wire

    async def _open(self) -> None:
        """Try to connect."""
        try:
            connection = await self._server.connect()
        except Unanswered as error:
            # Whoever asks in the meantime gets the same answer.
            asyncio.get_running_loop().call_later(PAUSE / 2, self._forget_attempt)
            self._reason = str(error)
            return
        awaited: Awaited = deque()
        self._wire, self._awaited = Wire(connection, partial(_answer, awaited), partial(self._end, awaited)), awaited
        self._lost_at, self._attempt, self._reason = None, None, ""

    def _forget_attempt(self) -> None:
        self._attempt = None

    def _drop(self, wire: Wire, reason: str) -> None:
        closing = asyncio.create_task(wire.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._end(self._awaited, reason)

    def _end(self, awaited: Awaited, reason: str) -> None:
        if awaited is self._awaited:
            self._wire, self._lost_at = None, asyncio.get_running_loop().time()
        for answer in awaited:
            if not answer.done():
                answer.set_exception(Unanswered(reason))


def _answer(awaited: Awaited, answer: Any) -> None:  # noqa: ANN401 (what Valkey answers)
    future = awaited.popleft()
    if future.done():
        return
    if isinstance(answer, ResponseError):
        kind = next(ours for theirs, ours in REFUSALS.items() if isinstance(answer, theirs))
        future.set_exception(kind(str(answer)))
    else:
        future.set_result(answer)
