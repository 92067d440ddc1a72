"""`shutting_down`: what an app's streams, tasks and resources wait for to know that they are to end."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from tenure.resources import scoped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Generator

T = TypeVar("T")


class ShuttingDown:
    """
    Whether the app that it was injected from is shutting down, and a wait for it.

    It begins with the signal that ends the server (SIGTERM, SIGINT), or where that cannot be noticed with the end of
    the app's lifespan, and never goes back. It can be used after the app has closed too.

    In a unit test, make one, and call `begin`.
    """

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()

    def is_set(self) -> bool:
        """Tell whether the shutdown has begun; from any thread."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Wait until the shutdown begins; in the app's event loop."""
        await self._begun.wait()

    def begin(self) -> None:
        """Let it begin for those who wait. It stops no server; tenure calls it when one is stopped."""
        if not self._begun.is_set():
            self._begun.set()
            for limit in self._limits:
                limit.reschedule(0)  # long ago, which is at once

    async def ends(self, source: AsyncIterable[T]) -> AsyncGenerator[T]:
        """
        Iterate over what `source` gives, until it ends or the shutdown begins.

        What `source` waits for then is cancelled, so that an item which was about to come is lost. What it gives in
        spite of that is given on. A generator is closed, whatever ends the iteration. Its errors are raised.
        """
        iterator = aiter(source)
        try:
            while not self.is_set():
                limit = asyncio.timeout(None)  # cancels once, and not what it cleans up with, as anyio's scopes would
                try:
                    async with limit:
                        self._limits.add(limit)
                        try:
                            item = await anext(iterator)
                        finally:
                            self._limits.remove(limit)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if limit.expired():
                        return
                    raise
                yield item
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()


_current: ContextVar[ShuttingDown] = ContextVar("tenure_shutting_down")


@contextmanager
def told_by(told: ShuttingDown) -> Generator[None]:
    """Let what starts in this block, and the tasks that it creates, take `told` as `shutting_down`."""
    token = _current.set(told)
    try:
        yield
    finally:
        _current.reset(token)


@scoped("app")
async def shutting_down() -> ShuttingDown:
    """
    Give what tells that this app is shutting down: ``Annotated[ShuttingDown, Depends(shutting_down)]``.

    It is a dependency as any other, so that two apps of a process never meet in it, tests override it, and a function
    that ends with the app says so in its parameters.
    """
    return _current.get()
