"""The object's side: calls are answered many at once, sync methods in a bounded number of threads."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from tenure.errors import TenureError
from tenure.host.sockets import is_same_user
from tenure.remote.errors import NotBegun, OwnerBusy, RemoteError
from tenure.remote.failures import told
from tenure.remote.hosted import hosted_as
from tenure.remote.signatures import signature_of
from tenure.remote.turns import Turn, Turns
from tenure.remote.wire import What, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

logger = logging.getLogger("tenure.remote")

AHEAD = 16
"""Items of a stream that are sent before the caller has taken the first of them."""
_ENDED = object()


class Server:
    """
    Serves one object to the workers of a machine.

    Args:
        served: The object; its public methods may be called.
    """

    def __init__(self, served: Any) -> None:  # noqa: ANN401 (any object)
        self.served = served
        self.hosted = hosted_as(type(served))
        self.turns = Turns(self.hosted.threads, f"tenure: {type(served).__name__}")
        self.waiting = 0
        self._is_ending = False
        self._idle = asyncio.Event()
        self._methods: dict[str, Method] = {}
        self._connections: set[_Connection] = set()

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncGenerator[None]:
        """Answer at a socket for a block; what is called by its end is answered first, what is new is refused."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (nothing else runs here yet)
        aside = path.with_suffix(".new")  # renamed once it listens: at the path there is never what does not answer
        aside.unlink(missing_ok=True)
        listener = await asyncio.get_running_loop().create_unix_server(self._connected, str(aside))
        aside.chmod(0o600)
        aside.rename(path)
        try:
            yield
        finally:
            listener.close()
            await self.finished()
            for connection in list(self._connections):
                connection.close()
            self.turns.close()
            path.unlink(missing_ok=True)  # noqa: ASYNC240 (nothing else runs here any more)

    async def finished(self) -> None:
        """Refuse what is called from now on, and wait for what was called before, as long as a call may take."""
        self._is_ending = True
        if self.waiting:
            self._idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), self.hosted.timeout)

    def _connected(self) -> _Connection:
        connection = _Connection(self, self._connections)
        self._connections.add(connection)
        return connection

    def method(self, name: str) -> Method:
        """
        Give a method that may be called.

        Raises:
            RemoteError: There is none of that name.
        """
        method = self._methods.get(name)
        if method is None:
            kind = type(self.served)
            function = getattr(kind, name, None)
            if name.startswith("_") or function is None or not inspect.isroutine(function):
                msg = f"{kind.__qualname__} has no method `{name}` that another process may call"
                raise RemoteError(msg, hint="let all workers run the same program")
            method = self._methods[name] = Method(getattr(self.served, name), function)
        return method

    def begun(self) -> None:
        """
        Note that a call has come.

        Raises:
            NotBegun: The process ends; it is not counted.
            OwnerBusy: As many are under way as may be; likewise.
        """
        if self._is_ending:
            msg = f"the process of {type(self.served).__qualname__} ends: the call has not run"
            raise NotBegun(msg)
        if self.waiting >= self.hosted.max_waiting:
            msg = f"{self.waiting} calls wait for {type(self.served).__qualname__} already"
            hint = (
                "call it less often, give it more threads, or let more calls wait: `@hosted(threads=…, max_waiting=…)`"
            )
            raise OwnerBusy(msg, hint=hint)
        self.waiting += 1

    def items(self, call: Callable[[], Any]) -> AsyncGenerator[Any]:
        """Give the items of a generator, each made in a turn of its own where that is a sync one."""
        items = call()
        return cast("AsyncGenerator[Any]", items) if inspect.isasyncgen(items) else self._in_turns(items)

    async def _in_turns(self, items: Iterator[Any]) -> AsyncGenerator[Any]:
        try:
            while (item := await self.turns.taken(partial(next, items, _ENDED))) is not _ENDED:
                yield item
        finally:
            await self.turns.taken(items.close)  # type: ignore[attr-defined] # of a generator

    def ended(self) -> None:
        """Note that a call has ended."""
        self.waiting -= 1
        if not self.waiting:
            self._idle.set()


class Method:
    """A method of the object, and how it is called."""

    def __init__(self, bound: Callable[..., Any], function: Callable[..., Any]) -> None:
        self._bound = bound
        self._signature = signature_of(function)
        self.streams = self._signature.streams
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function))

    def call(self, positional: list[Any], named: dict[str, Any]) -> Any:  # noqa: ANN401 (any value)
        """Call it, with its arguments as its annotations have them."""
        arguments, options = self._signature.arguments(positional, named)
        return self._bound(*arguments, **options)


class _Connection(Wire):
    """One worker, as the object's process sees it."""

    def __init__(self, server: Server, others: set[_Connection]) -> None:
        super().__init__()
        self._server = server
        self._others = others
        self._calls: dict[int, asyncio.Task[None] | Turn] = {}
        self._taken: dict[int, asyncio.Semaphore] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not is_same_user(transport.get_extra_info("socket")):
            logger.error("a process of another user was hung up on", extra={"tenure_event": "stranger"})
            transport.close()
            return
        self.send(What.READY, 0)

    def received(self, what: What, number: int, value: Any) -> None:  # noqa: ANN401 (any value)
        match what:
            case What.CALL:
                self._call(number, *value)
            case What.CANCEL:
                self._call_off(number)
            case What.MORE if number in self._taken:
                self._taken[number].release()
            case _:
                pass  # it has ended meanwhile

    def _call(self, number: int, name: str, positional: list[Any], named: dict[str, Any]) -> None:
        server = self._server
        try:
            method = server.method(name)
            server.begun()
        except RemoteError as error:
            self.send(What.ERROR, number, told(error))
            return
        call = partial(method.call, positional, named)
        if method.streams or method.is_async:
            work = self._stream(number, call) if method.streams else self._await(number, call)
            task = asyncio.get_running_loop().create_task(work)
            self._calls[number] = task
            task.add_done_callback(partial(self._ended, number))
        else:
            self._calls[number] = server.turns.take(call, partial(self._answered, number))

    def _call_off(self, number: int) -> None:
        call = self._calls.get(number)
        if isinstance(call, asyncio.Task):
            call.cancel()
        elif call is not None and call.call_off():
            self._forget(number)

    def _forget(self, number: int) -> None:
        if self._calls.pop(number, None) is not None:
            self._server.ended()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._taken.pop(number, None)
        self._forget(number)
        if task.cancelled():  # where the caller has called it off, it does not listen any more
            self._answer(What.ERROR, number, told(RemoteError("the call was cancelled where it ran")))
        elif (error := task.exception()) is not None:
            self._answer(What.ERROR, number, told(error))

    def _answered(self, number: int, value: Any, error: BaseException | None) -> None:  # noqa: ANN401 (any value)
        self._forget(number)
        if error is None:
            try:
                self._answer(What.RESULT, number, value)
            except TenureError as unsendable:
                error = unsendable
        if error is not None:
            self._answer(What.ERROR, number, told(error))

    async def _await(self, number: int, call: Callable[[], Any]) -> None:
        self._answer(What.RESULT, number, await call())

    async def _stream(self, number: int, call: Callable[[], Any]) -> None:
        taken = self._taken[number] = asyncio.Semaphore(AHEAD)
        stream = self._server.items(call)
        try:
            async for item in stream:
                await taken.acquire()
                self._answer(What.ITEM, number, item)
        finally:
            await stream.aclose()
        self._answer(What.END, number)

    def _answer(self, what: What, number: int, value: object = None) -> None:
        if self.is_open:
            self.send(what, number, value, copied=True)

    def lost(self) -> None:
        """Cancel what a worker that is gone has asked for, as far as it has not begun in a thread."""
        self._others.discard(self)
        for number in list(self._calls):
            self._call_off(number)

    def confused(self, error: Exception) -> None:
        logger.error("what a worker has sent cannot be read: %r", error, extra={"tenure_event": "frame-unreadable"})
