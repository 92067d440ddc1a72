"""The worker's side: one connection to the process of an object, over which many calls are under way at once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tenure.errors import HostServiceError
from tenure.host.sockets import is_same_user
from tenure.remote.calling import Calling, Overdue, died
from tenure.remote.errors import NotBegun, OwnerDied
from tenure.remote.failures import made_anew
from tenure.remote.wire import What, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tenure.remote.service import Owner

logger = logging.getLogger("tenure")

POLL = 0.01
"""Seconds between two tries to connect while the object's process starts anew."""
PATIENCE = 0.5
"""Seconds without a connection after which its keeper is looked for too."""


def _expire(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(Overdue())


def _looked_at(joining: asyncio.Task[None]) -> None:
    if not joining.cancelled():
        joining.exception()  # who waited for it may be gone


class _Connection(Wire):
    """One connection to the process of an object."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._last = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._items: dict[int, asyncio.Queue[tuple[What, Any]]] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(self, what: What, number: int, value: Any) -> None:  # noqa: ANN401 (any value)
        if what is What.READY:
            if not self.ready.done():  # who waits for it may be gone
                self.ready.set_result(None)
        elif (items := self._items.get(number)) is not None:
            items.put_nowait((what, value))
        elif (answer := self._answers.pop(number, None)) is not None and not answer.done():
            if what is What.RESULT:
                answer.set_result(value)
            else:
                answer.set_exception(made_anew(value))

    def lost(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError())
            self.ready.exception()  # who waits for it may be gone
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(died(self._name))  # one for each: who raises it writes its traceback into it
        for items in self._items.values():
            items.put_nowait((What.CANCEL, None))
        self._answers.clear()

    def confused(self, error: Exception) -> None:
        logger.error(
            "what the process of `%s` has sent cannot be read: %r",
            self._name,
            error,
            extra={"tenure_event": "frame-unreadable"},
        )

    async def _keeps_up(self, until: float) -> None:
        if self.is_writable:
            return
        try:
            async with asyncio.timeout_at(until):
                await self.writable()
        except TimeoutError:
            raise Overdue from None
        if not self.is_open:
            msg = f"the process of `{self._name}` ended before it was called"
            raise NotBegun(msg)

    def _next(self) -> int:
        self._last += 1
        return self._last

    async def call(self, order: list[Any], until: float) -> Any:  # noqa: ANN401 (any value)
        """
        Give what a call gives; one that is cancelled is called off there too.

        Raises:
            Overdue: There was no answer at that time of the event loop.
            NotBegun: It has not run, and another connection is to be called.
        """
        await self._keeps_up(until)
        number = self._next()
        answer = self._answers[number] = self._loop.create_future()
        # A timer for each is a fourth of what `asyncio.timeout` takes, and that is a tenth of a call.
        timer = self._loop.call_at(until, _expire, answer)
        try:
            self.send(What.CALL, number, order)
            return await answer
        finally:
            timer.cancel()
            if self._answers.pop(number, None) is not None:
                self._call_off(number)

    async def stream(self, order: list[Any], seconds: float) -> AsyncGenerator[Any]:
        """
        Give what a call gives, one by one; an iteration that is left is called off there too.

        Raises:
            Overdue: An item was not there so many seconds after it was asked for.
            NotBegun: It has not run, and another connection is to be called.
        """
        await self._keeps_up(self._loop.time() + seconds)
        number = self._next()
        items = self._items[number] = asyncio.Queue()
        is_over = False
        try:
            self.send(What.CALL, number, order)
            while True:
                try:
                    async with asyncio.timeout(seconds):
                        what, value = await items.get()
                except TimeoutError:
                    raise Overdue from None
                is_over = what is not What.ITEM
                if what is What.ITEM:
                    yield value
                    if self.is_open:  # what has come before its end is given first
                        self.send(What.MORE, number)
                elif what is What.END:
                    return
                else:
                    raise made_anew(value) if what is What.ERROR else died(self._name)
        finally:
            del self._items[number]
            if not is_over:
                self._call_off(number)

    def _call_off(self, number: int) -> None:
        if self.is_open:
            self.send(What.CANCEL, number)


class Client(Calling[_Connection]):
    """
    What calls an object that lives in another process. Belongs to one process and event loop.

    Args:
        name: What errors call the object.
        owner: Its process, which this worker has joined.
    """

    def __init__(self, name: str, owner: Owner) -> None:
        super().__init__(name)
        self._owner = owner
        self._connecting = asyncio.Lock()
        self._joining: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Hang up, and refuse what comes after."""
        super().close()
        if self._joining is not None:
            self._joining.cancel()

    async def connected(self) -> _Connection:
        """Give a connection, waiting for the object's process where that starts anew."""
        if self._connection is not None and self._connection.is_open:
            return self._connection
        async with self._connecting:
            looked = self._loop.time()
            while self._connection is None or not self._connection.is_open:
                with suppress(OSError):
                    self._connection = await self._connect()
                    break
                if self._loop.time() - looked > PATIENCE:
                    await self._join_again()
                    looked = self._loop.time()
                await asyncio.sleep(POLL)
                self._refuse_elsewhere()
            return self._connection

    async def _join_again(self) -> None:
        """Have it started anew where its keeper has gone too, which goes on though this caller may leave."""
        joining = self._joining
        if joining is None or joining.done():
            joining = self._joining = self._loop.create_task(self._owner.join_again())
            joining.add_done_callback(_looked_at)
        await asyncio.wait([joining])
        if joining.cancelled():
            return
        error = joining.exception()
        if isinstance(error, HostServiceError):
            msg = f"the process of `{self.name}` could not be started anew: {error.message}"
            raise OwnerDied(msg, path=error.path, hint=error.hint) from error
        if error is not None:
            raise error

    async def _connect(self) -> _Connection:
        transport, connection = await self._loop.create_unix_connection(
            lambda: _Connection(self.name), str(self._owner.socket)
        )
        if not is_same_user(transport.get_extra_info("socket")):
            transport.abort()
            msg = f"the process that answers for `{self.name}` is another user's"
            raise PermissionError(msg)
        try:
            await connection.ready  # for the system also connects to a process that is just ending
        except BaseException:
            transport.abort()
            raise
        return connection
