"""How what an app serves comes to its end: it gets no more, is told, has its grace, is cancelled."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import threading
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from tenure.cancellation import uninterrupted
from tenure.errors import DeclarationError
from tenure.fastapi import servers
from tenure.fastapi.cancelling import cancel
from tenure.fastapi.environment import is_development
from tenure.fastapi.serving import has_server, is_known, serving
from tenure.lifetimes import AFTER_CANCEL
from tenure.shutdown import ShuttingDown
from tenure.signals import noticed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from fastapi import FastAPI

    from tenure.fastapi.serving import Serving
    from tenure.signals import Handler, Noticed

logger = logging.getLogger("tenure")

SERVER_LATER = 0.25
"""Seconds that a server waits longer than we do for what is cancelled, where we may say so."""
ALONE_LATER = 0.75
"""Seconds that an app waits longer, for its server to end the lifespan."""
REPEATED = 1.0
"""Seconds in which another SIGTERM is the same one: systemd sends it to each process, and so does a server's first."""


class Drain:
    """
    The end of one run of an app.

    Args:
        app: What is served.
        grace: Seconds that a request may go on after the shutdown has begun.
        delay: Seconds that SIGTERM is held back while the app is ready, so that it gets no more requests before the
            server stops; none where the environment variable `FASTAPI_ENV` is ``development``.
        is_ready: Says whether the app is ready.

    Raises:
        DeclarationError: The grace or the delay is not 0 or more seconds.
    """

    def __init__(self, app: FastAPI | None, grace: float, delay: float, is_ready: Callable[[], bool]) -> None:
        refuse_no_seconds("grace", grace, "give requests a time to end in, `grace=5`, or none, `grace=0`")
        refuse_no_seconds("drain_delay", delay, "give balancers a time to notice, `drain_delay=5`, or none")
        self.shutting_down = ShuttingDown()
        self._app: FastAPI | None = app
        self._grace = grace
        self._delay = 0 if is_development() else delay
        self._is_ready = is_ready
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._servers: dict[int, Handler] = {}
        self._noticed_at: float | None = None
        self._held: Noticed | None = None
        self._until: float | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._cancelling: asyncio.Task[None] | None = None
        self._not_served: set[asyncio.Task[Any] | None] = set()
        self._lifespan: asyncio.Task[Any] | None = None
        self._is_alone = False

    @property
    def is_draining(self) -> bool:
        """Whether the signal to end has come, and is held back from the server."""
        return self._held is not None

    @contextmanager
    def noticing(self) -> Generator[None]:
        """Begin when a signal says so, as soon as the event loop gets to it."""
        with noticed(self._note, may_hold=self._delay > 0) as found:
            self._servers = found
            try:
                yield
            finally:
                self._stop_timers()
                self._go_on()
                self._app, self._servers = None, {}

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
            logger.warning(
                "requests are not found in this version of Starlette: the shutdown cancels none",
                extra={"tenure_event": "requests-unknown"},
            )
        self._lifespan = asyncio.current_task()
        self._not_served.add(self._lifespan)
        if self._delay and threading.current_thread() is threading.main_thread():
            self._loop.call_soon(self._warn, servers.graceful_timeout())
        try:
            yield
        except BaseException as error:
            await uninterrupted(self._end(with_grace=False))
            if not self._is_ours(error):
                raise
        else:
            await uninterrupted(self._end(with_grace=True))

    def _note(self, noticed: Noticed) -> bool:
        """Say whether to hold a signal back; as a signal handler, in the midst of anything else."""
        now, before, self._noticed_at = monotonic(), self._noticed_at, monotonic()
        is_term = noticed.number == signal.SIGTERM
        if is_term and self._held is not None and before is not None and now - before < REPEATED:
            return True
        is_held = before is None and is_term and self._delay > 0 and self._serves()
        self._held = noticed if is_held else None
        try:
            self._loop.call_soon_threadsafe(self._drain if is_held else self.begin)
        except RuntimeError:  # the event loop is closed, so that nothing is left to be told
            self._held = None
        return self._held is not None

    def _serves(self) -> bool:
        is_here = os.getpid() == self._process  # and not in a child that a handler has forked
        return is_here and self._lifespan is not None and self._until is None and self._is_ready()

    def _drain(self) -> None:
        logger.info(
            "draining: the server is told to end in %g s",
            self._delay,
            extra={"tenure_event": "draining", "tenure_seconds": self._delay},
        )
        self._timers.append(self._loop.call_later(self._delay, self._go_on))

    def _go_on(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self.begin()
            held.go_on()

    def tell_of_status(self) -> None:
        """Warn where the server's exit status will not tell that the app has not started."""
        if any(servers.hides_failure(server) for server in self._servers.values()):
            logger.warning(
                "uvicorn with several workers ends with status 0 although they did not start: what restarts it is to do"
                " so whatever its status is, or to run one worker in each container",
                extra={"tenure_event": "exit-status-hidden"},
            )

    def _warn(self, graceful_timeout: float | None) -> None:
        """Say what of the drain this server does not let happen, once it runs the lifespan."""
        if self._lifespan is None or not has_server(self._app, self._lifespan):
            return
        if signal.SIGTERM not in self._servers:
            logger.warning(
                "drain_delay=%g has no effect, as %s lets no app notice SIGTERM: have it sent later, as Kubernetes does"
                " with `preStop: sleep`",
                self._delay,
                servers.name_of_server(self._lifespan),
                extra={"tenure_event": "drain-without-effect"},
            )
        if graceful_timeout is not None and graceful_timeout < self._delay + self._grace + AFTER_CANCEL:
            logger.warning(
                "gunicorn kills its workers %g s after it has told them to end, which is less than drain_delay=%g and"
                " grace=%g: give it a longer --graceful-timeout",
                graceful_timeout,
                self._delay,
                self._grace,
                extra={"tenure_event": "drain-cut-short"},
            )

    def begin(self) -> float:
        """Tell the app, once, and give the event loop's time at which what is still served is cancelled."""
        if self._until is None:
            self._until = self._loop.time() + self._grace
            self.shutting_down.begin()
            self._timers += [
                self._loop.call_at(self._until, self._cancel_later),
                self._loop.call_at(self._until + AFTER_CANCEL + ALONE_LATER, self._end_alone),
            ]
            for server in self._servers.values():
                servers.limit(server, self._grace + AFTER_CANCEL + SERVER_LATER)
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
            logger.warning(
                "the server still waits for its clients: the app closes without it",
                extra={"tenure_event": "server-left-waiting"},
            )
            self._is_alone = True
            self._lifespan.cancel()

    def _is_ours(self, error: BaseException) -> bool:
        """Tell whether an error is our own cancellation of the lifespan, with nobody else's beside it."""
        if not self._is_alone or self._lifespan is None or not isinstance(error, asyncio.CancelledError):
            return False
        return self._lifespan.uncancel() == 0


def refuse_no_seconds(name: str, seconds: float, hint: str) -> None:
    """
    Refuse what is no time to wait.

    Raises:
        DeclarationError: It is below 0, has no end, or is no number.
    """
    if not 0 <= seconds < math.inf:
        msg = f"{name}={seconds} is no number of seconds"
        raise DeclarationError(msg, hint=hint)
