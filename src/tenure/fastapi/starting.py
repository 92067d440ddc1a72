"""How an app starts: before its server listens, or in the background, while requests wait for what they need."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal

from tenure.errors import DeclarationError, StartFailed
from tenure.fastapi.draining import refuse_no_seconds
from tenure.refusals import NeverStarted, StillStarting

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from starlette.requests import HTTPConnection

    from tenure.lifetimes import Tenant
    from tenure.shutdown import ShuttingDown

logger = logging.getLogger("tenure")

Start = Literal["before", "background"]

UNTIL = "tenure_waits_until"
"""Where in a connection's scope stands until when it waits for what starts: however much it needs, it waits once."""


class Starting:
    """
    One start of an app.

    Args:
        start: Whether it is done before the server listens, or in the background.
        wait: Seconds that a request waits for what it needs, in the background.
        shutting_down: What tells requests that wait that nothing will come any more.

    Raises:
        DeclarationError: It is neither; or the wait is not 0 or more seconds.
    """

    def __init__(self, start: Start, wait: float, shutting_down: ShuttingDown) -> None:
        if start not in {"before", "background"}:
            msg = f"start={start!r} is neither before nor in the background"
            raise DeclarationError(msg, hint='write `start="before"`, or `start="background"`')
        refuse_no_seconds("wait", wait, "let requests wait for what starts, `wait=5`, or not at all, `wait=0`")
        self.is_in_background = start == "background"
        self._wait = wait
        self._shutting_down = shutting_down
        self._refused = set[str]()
        self._task: asyncio.Task[None] | None = None

    async def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """
        Start, and be done with it unless that goes on in the background.

        Raises:
            StartFailed: It failed; in the background that is logged.
        """
        if self.is_in_background:
            self._task = asyncio.create_task(work, name="tenure: start")
            self._task.add_done_callback(_told)
        else:
            await work

    async def end(self) -> None:
        """Cancel what still starts, and wait until what had started is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def failure(self) -> BaseException | None:
        """Why the start in the background has failed, if it has."""
        return self._task.exception() if self._task is not None and _has_ended(self._task) else None

    async def until_done(self) -> None:
        """
        Wait until all is ready.

        Raises:
            StartFailed: It failed.
        """
        if self._task is not None:
            await asyncio.shield(self._task)

    async def until_ready(self, tenants: Iterable[Tenant]) -> None:
        """
        Wait until some of it is ready, however long that takes.

        Raises:
            StartFailed: The start failed.
        """
        for tenant in tenants:
            if self._task is not None and not tenant.ready.done():
                await asyncio.wait([tenant.ready, self._task], return_when=asyncio.FIRST_COMPLETED)
                if not tenant.ready.done():
                    await self.until_done()

    async def waited_for(self, tenant: Tenant, connection: HTTPConnection) -> None:
        """
        Let a request wait for what it needs, if that is still to be started.

        Raises:
            StillStarting: It did not start in time, or the app is to end before it does.
            NeverStarted: The start of the app has failed.
        """
        if self._task is None or (_has_ended(self._task) and self.failure is None):
            return  # whatever has become of it since
        now = asyncio.get_running_loop().time()
        until = connection.scope.setdefault(UNTIL, now + self._wait)
        over = asyncio.ensure_future(self._shutting_down.wait())
        news: set[asyncio.Future[Any]] = {self._task, over}
        if not tenant.ready.done():  # else it is being closed again
            news.add(tenant.ready)
        try:
            await asyncio.wait(news, timeout=until - now, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if tenant.state == "ready":
            return
        if self.failure is None:
            raise self._too_early(tenant)
        told = self.failure.message if isinstance(self.failure, StartFailed) else repr(self.failure)
        msg = f"`{tenant.node.name}` is not there, as the app did not start: {told}"
        raise NeverStarted(msg, hint="see the cause") from self.failure

    def _too_early(self, tenant: Tenant) -> StillStarting:
        name = tenant.node.name
        msg = f"`{name}` was not ready after a request had waited {self._wait:g} s for it"
        if self._shutting_down.is_set():
            msg = f"`{name}` was not ready when the app was told to end"
        hint = "let requests wait for longer, `lifespan(wait=…)`, or send none before `/readyz` says so"
        error = StillStarting(msg, path=_pending(tenant), hint=hint)
        if name not in self._refused:  # each would say the same
            self._refused.add(name)
            logger.warning("%s", error, extra={"tenure_event": "still-starting", "tenure_resource": name})
        return error


def _pending(tenant: Tenant) -> list[str]:
    """Say what is being started that something waits for, itself or what it needs."""
    pending = [tenant]
    for each in pending:  # which grows
        pending += [needed for needed in each.needs.values() if not needed.ready.done() and needed not in pending]
    return [
        f"`{each.node.name}` is starting, declared at {each.node.location}"
        for each in pending
        if each.state == "starting"
    ]


def _has_ended(task: asyncio.Task[None]) -> bool:
    """Tell whether a start has come to its end, by itself."""
    return task.done() and not task.cancelled()


def _told(task: asyncio.Task[None]) -> None:
    failure = task.exception() if _has_ended(task) else None
    if failure is not None:
        logger.error("%s", failure, exc_info=failure.__cause__ or failure, extra={"tenure_event": "start-failed"})
