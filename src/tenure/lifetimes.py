"""A plan started, watched, rolled back and closed: one task for each resource, a deadline on each wait."""

from __future__ import annotations

import asyncio
import logging
import os
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakSet

from tenure.cancellation import uninterrupted
from tenure.errors import (
    AlreadyClosed,
    CloseError,
    CloseFailed,
    NotRunning,
    NotStarted,
    ResourceFailed,
    StartFailed,
    TenureError,
)
from tenure.factories import opener
from tenure.observers import observer
from tenure.origin import Origin, running_loop
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from tenure.graph import Graph, Node

logger = logging.getLogger("tenure")

State = Literal["declared", "starting", "ready", "failed", "closing", "closed"]

_all: WeakSet[Lifetime] = WeakSet()


def _after_fork() -> None:
    for lifetime in _all:
        lifetime._unsettle()  # noqa: SLF001 (its own kind)


# A forked child is told so, and need not ask for its number at each request.
os.register_at_fork(after_in_child=_after_fork)

Opening: TypeAlias = "Callable[..., AbstractAsyncContextManager[Any]]"
"""Takes what a node needs, and gives an async context manager that makes its value and ends it."""

AFTER_CANCEL = 1.0
"""Seconds that a cancelled resource gets to end, before it is left behind."""


class TooSlow(TimeoutError):
    """Raised where a start takes longer than its deadline; a factory may raise `TimeoutError` itself."""


class Tenant:
    """
    One resource of a running app, in a task of its own that enters it, waits, and exits it.

    Because enter and exit happen in one task, a resource may hold a task group or a cancel scope open.

    Attributes:
        node: What it is in the plan.
        state: Where it is between declared and closed.
        value: What its factory made, once it is ready.
        began: When its start began, in seconds after that of the app; nothing until then.
        seconds: How long its start took.
        close_seconds: How long its close took; nothing until it has ended.
        error: What ended it, if something did.
    """

    def __init__(
        self,
        node: Node,
        needs: dict[str, Tenant],
        opening: Opening,
        on_end: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.node = node
        self._clock = clock
        self._opening = opening
        self._on_end = on_end
        self.needs = needs
        self.state: State = "declared"
        self.value: Any = None
        self.began: float | None = None
        self.seconds = 0.0
        self.close_seconds: float | None = None
        self.error: BaseException | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        resource = node.resource
        self._scope = resource.scope if resource else ""
        self.start_timeout = resource.start_timeout if resource else 30.0
        self.close_timeout = resource.close_timeout if resource else 10.0

    async def start(self) -> None:
        """Start it once all that it needs is ready; raise what it raises, or `TooSlow`."""
        for needed in self.needs.values():
            await asyncio.wait([needed.ready])
        self.state = "starting"
        self.task = asyncio.create_task(self._live(), name=f"tenure: {self.node.name}")
        self.task.add_done_callback(self._ended)
        await asyncio.wait([self.ready, self.task], timeout=self.start_timeout, return_when=asyncio.FIRST_COMPLETED)
        if not self.ready.done():
            if not self.task.done():
                msg = f"it was not ready after {self.start_timeout:g} s"
                raise TooSlow(msg)
            raise self.error or RuntimeError("it was cancelled while it started")
        name, seconds = self.node.name, self.seconds
        extra = {"tenure_event": "resource-ready", "tenure_resource": name, "tenure_seconds": seconds}
        logger.info("%s ready in %.3f s", name, seconds, extra=extra)

    async def _live(self) -> None:
        self.began = began = self._clock()
        end = observer().begin("start", self.node.name, self._scope)
        arguments = {parameter: needed.value for parameter, needed in self.needs.items()}
        try:
            async with self._opening(**arguments) as self.value:
                self.seconds = self._clock() - began
                self.state = "ready"
                end(None)
                self.ready.set_result(None)
                await self._stop.wait()
                self.state, began = "closing", self._clock()
                end = observer().begin("close", self.node.name, self._scope)
        except BaseException as error:
            end(error)
            raise
        self.close_seconds = self._clock() - began
        end(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._on_end()
        self.error = None if task.cancelled() else task.exception()
        if self.state == "ready" and not self._stop.is_set():
            extra = {"tenure_event": "resource-ended", "tenure_resource": self.node.name}
            told = "%s ended by itself while the app was running"
            logger.error(told, self.node.name, exc_info=self.error, extra=extra)
        self.state = "closed" if self.error is None and self.state == "closing" else "failed"

    async def close(self) -> CloseError | None:
        """End it within its deadline, come what may; give what went wrong."""
        task = self.task
        if task is None:
            return None
        failed_before = task.done()
        self._stop.set()
        if not self.ready.done():  # a thread that opens something cannot be interrupted, but is closed after it
            task.cancel()
        await asyncio.wait([task], timeout=self.close_timeout)
        late = not task.done()
        if late:
            task.cancel()
            await asyncio.wait([task], timeout=AFTER_CANCEL)
        return self._close_error(task, failed_before=failed_before, late=late)

    def _close_error(self, task: asyncio.Task[None], *, failed_before: bool, late: bool) -> CloseError | None:
        if not task.done():
            asyncio._unregister_task(task)  # noqa: SLF001 (or the loop's end would wait for it)
            what = "did not end after it was cancelled, and was left behind"
        elif late:
            what = f"did not close within {self.close_timeout:g} s, and was cancelled"
        elif self.ready.done() and self.error is not None:
            what = f"had failed: {self.error!r}" if failed_before else f"failed to close: {self.error!r}"
        else:
            return None  # a start that failed is told by whoever waited for it
        error = CloseError(f"`{self.node.name}` {what}", path=[f"declared at {self.node.location}"])
        error.__cause__ = self.error
        return error


class Lifetime:
    """
    What an app starts, from the start of the first resource to the close of the last.

    It belongs to the process and the event loop in which it was made.

    Attributes:
        state: Where it is between declared and closed.
        began: When its start began, in seconds since 1970.
        ready_seconds: How long it took until all was ready; nothing until then.
        tenants: What it starts, each after what it needs.

    Args:
        graph: What is to be started.
        open_with: Says how a node's value is made and ended.
    """

    def __init__(self, graph: Graph, open_with: Callable[[Node], Opening] | None = None) -> None:
        self._graph = graph
        self._origin = Origin(_asyncio_loop())
        self.state: State = "declared"
        self.began = time()
        self.ready_seconds: float | None = None
        self._epoch = perf_counter()
        self.tenants: dict[Node, Tenant] = {}
        for node in graph.started():
            needs = {need.parameter: self.tenants[need.node] for need in node.needs}
            self.tenants[node] = Tenant(node, needs, (open_with or opened_here)(node), self._unsettle, self._clock)
        self._is_settled = False
        self._observer = observer()
        _all.add(self)

    def _clock(self) -> float:
        return perf_counter() - self._epoch

    def _unsettle(self) -> None:
        self._is_settled = False

    @property
    def is_steady(self) -> bool:
        """Whether all of it is ready, in this process and event loop, so that each value is what it will be."""
        return self._is_settled and self._origin.loop is running_loop()

    @property
    def here(self) -> bool:
        """Whether this is the process and the event loop that it belongs to, and it is not closed."""
        return self.state != "closed" and self._origin.is_here

    def value(self, node: Node) -> Any:  # noqa: ANN401 (any value)
        """
        Give the value of a started node.

        Raises:
            NotRunning: It does not live in this process, this event loop or at this time.
        """
        self.check(node.name)
        tenant = self.tenants[node]
        if tenant.state != "ready":
            raise self._not_ready(tenant)
        return tenant.value

    def check(self, name: str) -> None:
        """
        Refuse a use of `name` where or when it does not live.

        Raises:
            OtherProcess: This is not the process that started it.
            OtherLoop: This is not the event loop that started it.
            AlreadyClosed: It is closed.
        """
        self._origin.refuse_other_process(name)
        if self.state == "closed":
            msg = f"`{name}` was used after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")
        self._origin.refuse_other_loop(name)

    def _not_ready(self, tenant: Tenant) -> NotRunning:
        name = tenant.node.name
        if tenant.state == "failed":
            error = ResourceFailed(
                f"`{name}` ended by itself while the app was running",
                path=[f"declared at {tenant.node.location}"],
                hint="see the cause; restart the app once it is mended",
            )
            error.__cause__ = tenant.error
            return error
        if tenant.state in {"closing", "closed"}:
            return AlreadyClosed(f"`{name}` was used while its app was closing it")
        return NotStarted(
            f"`{name}` was used before it had started", hint=f"take `{name}` as a parameter, and it starts first"
        )

    async def start(self) -> None:
        """
        Start everything, each as soon as what it needs is ready.

        Raises:
            StartFailed: One failed or was too slow. What had started is closed by then, in reverse.
        """
        self.began, self._epoch = time(), perf_counter()
        self._observer = observer()
        end = self._observer.begin("app", "", "app")
        self.state = "starting"
        starts: dict[asyncio.Task[None], Tenant] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for tenant in self.tenants.values():
                    starts[group.create_task(tenant.start())] = tenant
        except BaseException as failure:
            close_errors = await uninterrupted(self._close_all())
            end(failure)
            if isinstance(failure, BaseExceptionGroup):
                self.state = "failed"
                raise self._start_failed(starts, close_errors) from _only(failure)
            _log(close_errors)
            raise
        self.state = "ready"
        self._is_settled = all(tenant.state == "ready" for tenant in self.tenants.values())
        self.ready_seconds, count = self._clock(), len(self.tenants)
        end(None)
        extra = {"tenure_event": "app-ready", "tenure_seconds": self.ready_seconds}
        logger.info("%d resource%s ready in %.3f s", count, "s" * (count != 1), self.ready_seconds, extra=extra)

    def _start_failed(self, starts: dict[asyncio.Task[None], Tenant], close_errors: list[CloseError]) -> StartFailed:
        failed = [
            (tenant, task.exception()) for task, tenant in starts.items() if not task.cancelled() and task.exception()
        ]
        tenant, error = failed[0]
        others = [f"`{other.node.name}` failed too: {why!r}" for other, why in failed[1:]]
        what, where, hint = _told(error)
        if isinstance(error, TooSlow):
            scope = tenant.node.resource.scope if tenant.node.resource else "app"
            hint = f'if it needs longer, say so: `@scoped("{scope}", start_timeout={tenant.start_timeout * 2:g})`'
        return StartFailed(
            f"`{tenant.node.name}` did not start: {what}",
            path=[*where, *self._graph.why(tenant.node), *others],
            hint=hint,
            close_errors=close_errors,
        )

    async def close(self) -> None:
        """
        Close everything in reverse, what nothing needs any more at once, each within its deadline.

        After a start that did not come to its end there is nothing left to close.

        Raises:
            CloseFailed: Some failed; all were attempted.
        """
        if self.state in {"failed", "closed"}:
            self.state = "closed"
            return
        end = self._observer.begin("stop", "", "app")
        errors = await uninterrupted(self._close_all())
        _log(errors)
        failure = CloseFailed(errors) if errors else None
        end(failure)
        if failure is not None:
            raise failure

    async def _close_all(self) -> list[CloseError]:
        self.state = "closing"
        self._unsettle()
        closing: dict[Tenant, asyncio.Task[CloseError | None]] = {}
        for tenant in reversed(self.tenants.values()):
            users = [task for user, task in closing.items() if tenant in user.needs.values()]
            closing[tenant] = asyncio.create_task(_close_after(users, tenant))
        errors = [error for task in closing.values() if (error := await task)]
        self.state = "closed"
        for tenant in self.tenants.values():
            tenant.value = None
        return errors


def opened_here(node: Node) -> Opening:
    """Say that a node's value is made by its factory, in this process."""
    return opener(node.factory, node.kind, enter_in=in_own_thread, exit_in=in_own_thread)


async def _close_after(users: list[asyncio.Task[CloseError | None]], tenant: Tenant) -> CloseError | None:
    if users:
        await asyncio.wait(users)
    return await tenant.close()


def _told(error: BaseException | None) -> tuple[str, tuple[str, ...], str]:
    """Say what an error is, where, and what cures it, without its frame where it is one of ours."""
    if isinstance(error, TenureError):
        return error.message, error.path, error.hint
    if isinstance(error, TooSlow):
        return str(error), (), ""
    name, text = type(error).__name__, str(error)
    return f"{name}: {text}" if text else name, (), ""


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    loop = running_loop()
    if loop is None:
        msg = "the app was started outside of asyncio"
        raise NotStarted(msg, hint="run it in an asyncio event loop, as uvicorn does; trio is not served")
    return loop


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    return group.exceptions[0] if len(group.exceptions) == 1 else group


def _log(errors: Iterable[CloseError]) -> None:
    for error in errors:
        logger.error("%s", error, exc_info=error.__cause__, extra={"tenure_event": "close-failed"})
