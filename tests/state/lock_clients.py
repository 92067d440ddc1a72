"""Clients of a `Lock`, each as good as a process: it runs when it is told to, by a clock of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from tenure import Lock
from tenure.state.stores.postgres import PostgresEngine
from tenure.state.stores.valkey import ValkeyEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tenure.state.engine import Engine
    from tenure.state.lock import Held

HANGS = 20.0
"""Seconds after which a wait of a test has failed."""
NEVER = 1e9
THIRD = 100.0
"""Seconds after which a lease is renewed: many, so that only the clocks that are set here let one run out."""

nightly = Lock("nightly", scope="cluster", lease=3 * THIRD)


class Failed(Exception):
    """What a block raises by itself."""


class SetForward(asyncio.SelectorEventLoop):
    """An event loop whose clock can be set forward, as it is for a process that goes on after a pause."""

    ahead = 0.0

    def time(self) -> float:
        """Give the seconds of its clock."""
        return super().time() + self.ahead


class Watched:
    """An engine of which is known whether it is being asked, and what it has renewed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked = self.renewals = 0

    async def acquire(self, name: str, *, holder: str, lease: float) -> int | None:
        """Take a lock."""
        return await self._answered(self._engine.acquire(name, holder=holder, lease=lease))

    async def renew(self, name: str, *, holder: str, lease: float) -> bool:
        """Hold it for longer."""
        is_held = await self._answered(self._engine.renew(name, holder=holder, lease=lease))
        self.renewals += is_held
        return is_held

    async def release(self, name: str, *, holder: str) -> None:
        """Give it back."""
        await self._answered(self._engine.release(name, holder=holder))

    @property
    def is_busy(self) -> bool:
        """Whether it is being asked, or gives a connection back: one with a transaction would hold up all others."""
        return self.asked > 0 or bool(getattr(self._engine, "_releasing", ()))

    async def _answered(self, call: Coroutine[Any, Any, Any]) -> Any:
        self.asked += 1
        try:
            return await call
        finally:
            self.asked -= 1


class Block:
    """A task that waits for the lock, and holds it until it is told how to end."""

    def __init__(self, lock: Lock, timeout: float) -> None:
        self.held: Held | None = None
        self.left = 3  # thirds of its lease, by the clock of its process
        self.is_due = False  # to be renewed
        self._told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(lock, timeout))

    async def _run(self, lock: Lock, timeout: float) -> None:  # noqa: ASYNC109 (the lock's own)
        async with lock.hold(timeout=timeout) as self.held:
            await self._told

    def leave(self, way: type[BaseException] | None) -> None:
        """Let it end by itself, by an error or by its cancellation."""
        if way is Failed:
            self._told.set_exception(Failed())
        elif way is None:
            self._told.set_result(None)
        else:
            self.task.cancel()

    @property
    def outcome(self) -> type[BaseException] | None:
        """What it has ended with."""
        if self.task.cancelled():
            return asyncio.CancelledError
        error = self.task.exception()
        return None if error is None else type(error)


class Client:
    """A process, with an event loop and an engine of its own: while it does not run, it is paused."""

    def __init__(self, url: str, deployment: str) -> None:
        self._runner = asyncio.Runner(loop_factory=SetForward)
        self._stack = self._runner.run(self._open(url, deployment))
        self.forget()

    async def _open(self, url: str, deployment: str) -> AsyncExitStack:
        stack = AsyncExitStack()
        kind = PostgresEngine if url.startswith("postgresql") else ValkeyEngine
        self.engine = Watched(await stack.enter_async_context(kind(url, deployment=deployment, deadline=HANGS)))
        self.lock: Lock = await stack.enter_async_context(asynccontextmanager(nightly.factory)(self.engine))
        return stack

    def forget(self) -> None:
        """Have no block."""
        self.inside: Block | None = None
        self.waiting: list[Block] = []

    def ask(self, timeout: float) -> Block:
        """Begin to ask for the lock."""

        async def block() -> Block:
            return Block(self.lock, timeout)

        return self._runner.run(block())

    def run(self, until: Callable[[], bool] = lambda: True) -> None:
        """Go on until something is so, and the engine has nothing to do."""
        self._runner.run(self._become(until))
        while self.engine.is_busy:  # in the steps of the loop that came after
            self._runner.run(self._become(lambda: not self.engine.is_busy))

    async def _become(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANGS):
            while not condition():
                await asyncio.sleep(0.0005)

    def set_forward(self, seconds: float) -> None:
        """Let time pass."""
        loop = self._runner.get_loop()
        assert isinstance(loop, SetForward)
        loop.ahead += seconds

    def renews(self) -> bool:
        """Tell whether a task of it renews a lease."""
        return any("renews" in task.get_name() for task in asyncio.all_tasks(self._runner.get_loop()))

    def stop(self, *blocks: Block) -> None:
        """Cancel blocks, and wait for their end."""
        for block in blocks:
            block.task.cancel()
        self.run(lambda: all(block.task.done() for block in blocks))

    def close(self) -> None:
        """End."""
        self._runner.run(self._stack.aclose())
        self._runner.close()
