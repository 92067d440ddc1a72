"""What Ray runs in a process of its own: an actor that makes an object with all that it needs, and answers for it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from contextlib import aclosing
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tenure import __version__
from tenure.errors import TenureError
from tenure.lifespan import running
from tenure.remote.calling import died
from tenure.remote.errors import NotBegun, RemoteError
from tenure.remote.failures import told
from tenure.remote.hosted import found, program_of
from tenure.remote.server import Server
from tenure.remote.wire import What, packed, unframed
from tenure.state.deployments import STATE_VARIABLE, VARIABLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from tenure.remote.server import Method
    from tenure.resources import Resource

logger = logging.getLogger("tenure.actor")

AHEAD = 16
"""Items of a stream that are made before the caller has asked for them."""
LEASE = 10.0
"""Seconds without a sign of life from a stream's caller after which it ends."""
ORPHANED = 1.0
"""Seconds after its deadline when an async call ends by itself: its caller is gone, or would have called it off."""


class Actor:
    """
    Makes one object, and calls it for others; an async actor.

    Nothing is made by its constructor: to Ray, an actor whose constructor fails is dead for good.

    Args:
        order: What to make.
    """

    def __init__(self, order: bytes) -> None:
        self._order: dict[str, Any] = unframed(order)[2]
        self._making: asyncio.Future[Server] | None = None
        self._living: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self._streams: dict[str, _Stream] = {}

    async def start(self) -> bytes:
        """Make the object, unless it is there, and tell by which program."""

        async def program() -> object:
            server = await self._made()
            return {"program": program_of(type(server.served)), "version": __version__}

        return await _answered(program())

    async def call(self, frame: bytes) -> bytes:
        """Call a method."""
        return await _answered(self._called(frame))

    async def stream(self, number: str, frame: bytes) -> list[bytes]:
        """Call a generator, and give those of its items that there are, or the first that there will be."""
        try:
            stream = self._streams.get(number)
            if stream is None:
                stream = await self._begun(number, frame)
            return await stream.taken()
        except TenureError as error:
            return [packed(What.ERROR, told(error))]

    async def stay(self, number: str) -> None:
        """Note that who takes a stream's items is alive."""
        if number in self._streams:
            self._streams[number].heard()

    async def leave(self, number: str) -> None:
        """End a stream."""
        if number in self._streams:
            self._streams[number].end()

    async def close(self) -> None:
        """Refuse new calls, answer those under way, and close what the object has taken."""
        self._told.set()
        if self._living is not None:
            await asyncio.wait([self._living])

    async def _made(self) -> Server:
        if self._told.is_set():
            msg = f"the process of `{self._order['resource']}` ends: the call has not run"
            raise NotBegun(msg)
        making = self._making
        if making is None or (making.done() and making.exception() is not None):  # to fail once is not to fail for ever
            making = self._making = asyncio.get_running_loop().create_future()
            self._living = asyncio.create_task(self._live(making))
        return await asyncio.shield(making)

    async def _live(self, made: asyncio.Future[Server]) -> None:
        """Run the object and what it takes, until told."""
        try:
            resource = self._resource()
            async with running(also=[resource]) as scope:
                server = Server(await scope.get(resource))
                made.set_result(server)
                logger.info(
                    "%s is served by process %d",
                    resource.name,
                    os.getpid(),
                    extra={"tenure_event": "object-served", "tenure_resource": resource.name},
                )
                await self._told.wait()
                await server.finished()
                server.turns.close()
        except Exception as error:
            if made.done():
                raise
            made.set_exception(error)

    def _resource(self) -> Resource[Any]:
        order = self._order
        if order["version"] != __version__:
            msg = f"`{order['resource']}` is asked for by tenure {order['version']}, and would live under {__version__}"
            raise RemoteError(msg, hint="let all machines of the cluster have the same packages")
        os.environ[VARIABLE] = order["deployment"]
        if order["state"] is not None:
            os.environ[STATE_VARIABLE] = order["state"]
        try:
            apart = found(attrgetter(order["name"])(importlib.import_module(order["module"])), order)
        except (ImportError, AttributeError) as error:
            msg = f"a machine of the cluster has no class `{order['module']}.{order['name']}`: {error}"
            hint = 'install the program there, or send it: `@hosted(ray={"runtime_env": {"working_dir": "."}})`'
            raise RemoteError(msg, hint=hint) from error
        return apart.owned()

    async def _called(self, frame: bytes) -> object:
        server = await self._made()
        _, _, (name, positional, named, seconds) = unframed(frame)
        method = server.method(name)
        server.begun()
        call = partial(method.call, positional, named)
        if not method.is_async:
            return await _in_turn(server, call)
        try:
            async with asyncio.timeout(seconds + ORPHANED):
                return await call()
        finally:
            server.ended()

    async def _begun(self, number: str, frame: bytes) -> _Stream:
        if not frame:
            raise died(self._order["resource"])
        server = await self._made()
        _, _, (name, positional, named) = unframed(frame)
        method: Method = server.method(name)
        server.begun()
        call = partial(method.call, positional, named)
        stream = self._streams[number] = _Stream(partial(server.items, call))
        stream.task.add_done_callback(lambda _: self._ended(number, server))
        return stream

    def _ended(self, number: str, server: Server) -> None:
        server.ended()
        asyncio.get_running_loop().call_later(LEASE, self._streams.pop, number, None)  # its last items are still there


class _Stream:
    """A generator that runs a little ahead of who takes its items."""

    def __init__(self, begin: Callable[[], AsyncGenerator[Any]]) -> None:
        self._begin = begin
        self._items: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self.task = asyncio.create_task(self._run())
        self._watch()

    async def taken(self) -> list[bytes]:
        """Give what there is, waiting for the first."""
        self.heard()
        taken = [await self._items.get()]
        while not self._items.empty():
            taken.append(self._items.get_nowait())
        return taken

    def heard(self) -> None:
        """Note a sign of life."""
        self._last = self._loop.time()

    def end(self) -> None:
        """End it where it is."""
        self.task.cancel()

    def _watch(self) -> None:
        if self._loop.time() - self._last > LEASE:
            self.end()
        elif not self.task.done():
            self._loop.call_later(LEASE / 4, self._watch)

    async def _run(self) -> None:
        last = packed(What.END)
        try:
            async with aclosing(self._begin()) as items:
                async for item in items:
                    await self._items.put(packed(What.ITEM, item))
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            last = packed(What.ERROR, told(error))
        await self._items.put(last)


async def _in_turn(server: Server, call: Callable[[], Any]) -> object:
    """Run a sync call in a thread, and count it until it has ended there, or was called off before it began."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(value: object, error: BaseException | None) -> None:
        server.ended()
        if not answer.done():
            answer.set_result(value) if error is None else answer.set_exception(error)

    turn = server.turns.take(call, done)
    try:
        return await answer
    except asyncio.CancelledError:
        if turn.call_off():
            server.ended()
        raise


async def _answered(work: Coroutine[Any, Any, object]) -> bytes:
    """Give what a call gives, or its error, as data."""
    try:
        return packed(What.RESULT, await work)
    except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
        return packed(What.ERROR, told(error))
