"""How what an app serves comes to its end: it is told, has its grace, and is cancelled, so that the app can close."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tenure.cancellation import uninterrupted
from tenure.fastapi.cancelling import cancel
from tenure.fastapi.serving import has_server, is_known, serving
from tenure.lifetimes import AFTER_CANCEL
from tenure.shutdown import ShuttingDown
from tenure.signals import noticed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from fastapi import FastAPI

    from tenure.fastapi.serving import Serving
    from tenure.signals import Handler

logger = logging.getLogger("tenure")

SERVER_LATER = 0.25
"""Seconds that a server waits longer than we do for what is cancelled, where we may say so."""
ALONE_LATER = 0.75
"""Seconds that an app waits longer, for its server to end the lifespan."""


class Drain:
    """
    The end of one run of an app.

    Args:
        app: What is served.
        grace: Seconds that a request may go on after the shutdown has begun.
    """

    def __init__(self, app: FastAPI | None, grace: float) -> None:
        self.shutting_down = ShuttingDown()
        self._app: FastAPI | None = app
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._servers: list[Handler] = []
        self._until: float | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._cancelling: asyncio.Task[None] | None = None
        self._not_served: set[asyncio.Task[Any] | None] = set()
        self._lifespan: asyncio.Task[Any] | None = None
        self._is_alone = False

    @contextmanager
    def noticing(self) -> Generator[None]:
        """Begin when a signal says so, as soon as the event loop gets to it."""
        with noticed(self._note) as servers:
            self._servers = servers
            try:
                yield
            finally:
                self._stop_timers()
                self._app, self._servers = None, []

    @contextmanager
    def told(self) -> Generator[None]:
        """Begin when the block ends, if not before."""
        try:
            yield
        finally:
            self.begin()

    @asynccontextmanager
    async def served(self) -> AsyncGenerator[None]:
        """
        Begin when the block ends, if not before, and go on once nothing is served any more, or gives way to nothing.

        A server that waits on for its clients is not waited for: the block is ended as at the end of the lifespan.
        """
        if not is_known():
            logger.warning("requests are not found in this version of Starlette: the shutdown cancels none")
        self._lifespan = asyncio.current_task()
        self._not_served.add(self._lifespan)
        try:
            yield
        except BaseException as error:
            await uninterrupted(self._end(with_grace=False))
            if not self._is_ours(error):
                raise
        else:
            await uninterrupted(self._end(with_grace=True))

    def _note(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed, so that nothing is left to be told
            self._loop.call_soon_threadsafe(self.begin)

    def begin(self) -> float:
        """Tell the app, once, and give the event loop's time at which what is still served is cancelled."""
        if self._until is None:
            self._until = self._loop.time() + self._grace
            self.shutting_down.begin()
            self._timers = [
                self._loop.call_at(self._until, self._cancel_later),
                self._loop.call_at(self._until + AFTER_CANCEL + ALONE_LATER, self._end_alone),
            ]
            for server in self._servers:
                _limit(server, self._grace + AFTER_CANCEL + SERVER_LATER)
        return self._until

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _cancel_later(self) -> None:
        self._cancelling = self._loop.create_task(self._cancel(), name="tenure: cancelled requests")

    async def _cancel(self) -> None:
        self._not_served |= await cancel(self._left, self._grace)

    def _left(self) -> list[Serving]:
        return [each for each in serving(self._app) if each.task not in self._not_served]

    def _undisturbed(self) -> list[asyncio.Task[Any]]:
        """Give what is served and not cancelled yet; a server that has done so has given it its time."""
        return [each.task for each in self._left() if not each.task.cancelling()]

    async def _end(self, *, with_grace: bool) -> None:
        until = self.begin()
        self._stop_timers()
        while with_grace and (left := self._undisturbed()) and self._loop.time() < until:
            await asyncio.wait(left, timeout=until - self._loop.time())
        if self._cancelling is not None:
            await self._cancelling
        await self._cancel()

    def _end_alone(self) -> None:
        if self._lifespan is not None and has_server(self._app, self._lifespan):
            logger.warning("the server still waits for its clients: the app closes without it")
            self._is_alone = True
            self._lifespan.cancel()

    def _is_ours(self, error: BaseException) -> bool:
        """Tell whether an error is our own cancellation of the lifespan, with nobody else's beside it."""
        if not self._is_alone or self._lifespan is None or not isinstance(error, asyncio.CancelledError):
            return False
        return self._lifespan.uncancel() == 0


def _limit(server: Handler, seconds: float) -> None:
    """
    Bound uvicorn's wait for connections and requests, which has no end unless one is set.

    Only then does it go on although a handler swallows its cancellation, or a client does not read its answer.
    """
    config: Any = getattr(getattr(server, "__self__", None), "config", None)
    if getattr(config, "timeout_graceful_shutdown", seconds) is None:
        config.timeout_graceful_shutdown = seconds
