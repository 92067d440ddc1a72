"""Health checks while an app runs: each by itself in the background, so that who asks reads what is known."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Literal

from tenure.checks import Degraded
from tenure.errors import TenureError
from tenure.observers import observer
from tenure.ops.snapshot import CheckSnapshot
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tenure.checks import Check
    from tenure.fastapi.application import Application
    from tenure.graph import Node
    from tenure.lifetimes import Tenant

logger = logging.getLogger("tenure")

JITTER = 0.1
"""By which part of its period a check comes earlier or later, so that those of all workers do not come at once."""
STALE_AFTER = 3
"""Periods after which a result says too little of how it is now."""
SLOW = 0.5
"""Which part of its time a check may take before that is logged."""
AFTER_CANCEL = 0.5
"""Seconds that a cancelled check gets to end, before it is left behind."""

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Result:
    """
    What a check has said.

    Attributes:
        status: Whether that is well.
        output: Why it is not, if it is not.
        ended: When it ended, in seconds of the event loop's clock.
        time: The same, as others tell time.
        seconds: How long it took.
    """

    status: Status
    output: str
    ended: float
    time: datetime
    seconds: float


class Running:
    """One check, run again and again: never twice at a time, although one may not end when it is cancelled."""

    def __init__(self, check: Check, tenant: Tenant) -> None:
        self.check = check
        self.result: Result | None = None
        self._tenant = tenant
        self._loop = asyncio.get_running_loop()
        self._call: asyncio.Task[Any] | None = None
        self._told = ("pass", False)

    async def run(self) -> None:
        """Check, until cancelled, from when the resource is ready."""
        try:
            await asyncio.wait([self._tenant.ready])
            while True:
                await self._once()
                await asyncio.sleep(self.check.every * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 (no secret)
        finally:
            await self._stop()

    async def _once(self) -> None:
        began = self._loop.time()
        status, output = await self._verdict()
        ended = self._loop.time()
        self.result = Result(status, output, ended, datetime.now(UTC), ended - began)
        self._log(self.result)

    async def _verdict(self) -> tuple[Status, str]:
        if self._tenant.state == "failed":
            return "fail", f"`{self._tenant.node.name}` has ended by itself"
        if self._call is not None and not self._call.done():
            return "fail", "the last one has not ended yet, although it was cancelled"
        end = observer().begin("check", self.check.name, self._scope)
        call = self._call = self._loop.create_task(self._called(), name=f"tenure: checks {self.check.name}")
        try:
            await asyncio.wait([call], timeout=self.check.timeout)
        except asyncio.CancelledError as error:
            end(error)
            raise
        status, output, failure = self._heard(call)
        end(failure)
        return status, output

    def _heard(self, call: asyncio.Task[Any]) -> tuple[Status, str, BaseException | None]:
        if not call.done():
            call.cancel()
            call.add_done_callback(_seen)
            error: BaseException = TimeoutError(f"no answer within {self.check.timeout:g} s")
            return "fail", str(error), error
        if call.cancelled():
            error = asyncio.CancelledError("it was cancelled from within")
            return "fail", str(error), error
        failure = call.exception()
        if failure is not None:
            said = failure.message if isinstance(failure, TenureError) else str(failure)
            return "fail", f"{type(failure).__name__}: {said}" if said else type(failure).__name__, failure
        return (*_judged(call.result()), None)

    @property
    def _scope(self) -> str:
        resource = self._tenant.node.resource
        return resource.scope if resource is not None else ""

    async def _called(self) -> Any:  # noqa: ANN401 (whatever a program's function gives)
        function, value = self.check.function, self._tenant.value
        if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004 (its kind is asked)
            return await function(value)
        given = await in_own_thread(partial(function, value))
        return await given if asyncio.iscoroutine(given) else given

    def _log(self, result: Result) -> None:
        is_slow = result.seconds > self.check.timeout * SLOW
        before, self._told = self._told, (result.status, is_slow)
        if self._told == before:
            return
        extra = {
            "tenure_event": "check",
            "tenure_check": self.check.name,
            "tenure_status": result.status,
            "tenure_seconds": result.seconds,
        }
        if result.status != "pass":
            level = logging.ERROR if result.status == "fail" and self.check.critical else logging.WARNING
            what = "fails" if result.status == "fail" else "is degraded"
            logger.log(level, "check %s %s: %s", self.check.name, what, result.output, extra=extra)
        elif is_slow:
            logger.warning("check %s is slow: %.3f s", self.check.name, result.seconds, extra=extra)
        else:
            logger.info("check %s passes again", self.check.name, extra=extra)

    async def _stop(self) -> None:
        call = self._call
        if call is None or call.done():
            return
        call.cancel()
        call.add_done_callback(_seen)
        await asyncio.wait([call], timeout=AFTER_CANCEL)
        if not call.done():
            asyncio._unregister_task(call)  # noqa: SLF001 (or the loop's end would wait for it)
            logger.warning(
                "check %s did not end when it was cancelled, and was left behind",
                self.check.name,
                extra={"tenure_event": "check-left-behind", "tenure_check": self.check.name},
            )

    def told(self) -> CheckSnapshot:
        """Tell the last result; one that is older than three periods is a warning."""
        check, result = self.check, self.result
        if result is None:
            return CheckSnapshot(name=check.name, status="pending", critical=check.critical, tags=tuple(check.tags))
        stale = self._loop.time() - result.ended > STALE_AFTER * check.every
        return CheckSnapshot(
            name=check.name,
            status="warn" if stale and result.status == "pass" else result.status,
            critical=check.critical,
            tags=tuple(check.tags),
            time=result.time,
            seconds=result.seconds,
            output=result.output or ("it has not been checked for some time" if stale else ""),
            stale=stale,
        )


class Checks:
    """All health checks of a running app. Belongs to one event loop."""

    def __init__(self, application: Application) -> None:
        self._running: dict[Node, list[Running]] = {}
        for node, tenant in application.lifetime.tenants.items():
            checks = node.resource.checks if node.resource is not None else []
            if checks:
                self._running[node] = [Running(check, tenant) for check in checks]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run them for a block; what does not end at its end is left behind."""
        tasks = [
            asyncio.create_task(each.run(), name=f"tenure: check {each.check.name}")
            for checks in self._running.values()
            for each in checks
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def told(self) -> dict[Node, list[CheckSnapshot]]:
        """Tell the last results, by what was checked."""
        return {node: [each.told() for each in checks] for node, checks in self._running.items()}


def _judged(given: object) -> tuple[Status, str]:
    if isinstance(given, Degraded):
        return "warn", str(given.reason)
    if given is None or given is True:
        return "pass", ""
    if given is False:
        return "fail", "it said no"
    return "fail", f"it gave {type(given).__name__}, which says neither yes nor no"


def _seen(call: asyncio.Task[Any]) -> None:
    """Look at the error of what nobody waits for any more, so that asyncio does not report it as forgotten."""
    if not call.cancelled():
        call.exception()
