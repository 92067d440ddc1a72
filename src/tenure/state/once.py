"""
What is done once for all who share it: the first worker runs a factory, and the others get its value.

So are `@scoped("host")` and `@scoped("cluster")` served on a function, and the former on a generator. Each process has
a copy of the value, which is written as JSON or bytes: what its factory's return annotation says. Where that says a
service of the host, `tenure.state.services` lets each process join it instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import os
import re
import sys
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, get_args

from tenure.calls import evaluated
from tenure.cancellation import uninterrupted
from tenure.errors import (
    DeclarationError,
    LockLost,
    NotSerialisable,
    OnceFailed,
    StateMismatch,
    StateTooLarge,
    StateUnavailable,
    TenureError,
)
from tenure.factories import opener, without_partial
from tenure.host.supervisor import Service
from tenure.state.counter import SYSTEMS
from tenure.state.deployments import current_deployment
from tenure.state.engines import LARGEST_VALUE
from tenure.state.services import gives_service, joined
from tenure.state.turns import ClusterTurns, Failure, HostTurns, failure
from tenure.state.values import Unreadable, Values
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from tenure.resources import Resource
    from tenure.state.engine import Engine
    from tenure.state.turns import Turns

logger = logging.getLogger("tenure")

ENGINE = "tenure_engine"
"""The argument by which what is cluster-scoped gets the engine of its deployment."""

LOOK = 0.2
"""Seconds between two looks whether what another process runs has ended."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds after which a generator that failed is run again: doubled each time."""

SLACK = 0.1
"""Seconds before its deadline from which on a start that is cancelled was too slow, and not called off."""

_DIGITS = 16
_TITLE_LENGTH = 60

_running: dict[tuple[str, str], list[Resource[Any]]] = {}
"""What this process shares now, by deployment and key."""


def context(resource: Resource[Any]) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """
    Give what takes the arguments of a resource's factory, and gives an async context manager.

    That gives the value on enter, made by this process or another, and leaves those who share it on exit.

    Raises:
        DeclarationError: The type that the factory says it makes is not defined, or Pydantic cannot read it; or it is a
            service, and workers could not join it.
    """
    kind = _kind(resource)
    if gives_service(resource, kind):
        return joined(resource)
    once = _Once(resource, kind)
    return once.kept if resource.kind.closes else once.done


class _Once:
    """What one resource's factory makes, as one process shares it."""

    def __init__(self, resource: Resource[Any], kind: Any) -> None:  # noqa: ANN401 (any type)
        self.resource = resource
        self.name = resource.name
        self._key = _key(resource)
        self._is_array = _is_array(resource, kind)
        self._values: Values[Any] = Values(f"{resource.scope}-scoped `{self.name}`", kind, LARGEST_VALUE)
        self.open = opener(resource.factory, resource.kind, enter_in=in_own_thread, exit_in=in_own_thread)

    @asynccontextmanager
    async def done(self, **arguments: Any) -> AsyncGenerator[Any]:  # noqa: ANN401 (any value)
        """Give the value of a function."""
        engine: Engine | None = arguments.pop(ENGINE, None)
        turns = ClusterTurns(engine, self._key) if engine is not None else self._on_host()
        async with self._joined(turns):
            with self._kept(turns):
                value = await self._obtained(turns, arguments)
            yield self.read(value)

    @asynccontextmanager
    async def kept(self, **arguments: Any) -> AsyncGenerator[Any]:  # noqa: ANN401 (any value)
        """Give the value of a generator, and keep it open while any process uses it."""
        turns = self._on_host()
        async with self._joined(turns):
            keeping = _Keeping(self, turns, arguments)
            with self._kept(turns):
                task = asyncio.create_task(keeping.keep(), name=f"tenure: keeps {self.name}")
            try:
                await asyncio.wait([keeping.ready, task], return_when=asyncio.FIRST_COMPLETED)
                yield self.read(keeping.ready.result() if keeping.ready.done() else task.result())
            finally:
                await keeping.end(task)

    def _kept(self, turns: Turns) -> AbstractContextManager[None]:
        """Let an array that is made in this block lie beside its value."""
        if not self._is_array or not isinstance(turns, HostTurns):
            return nullcontext()
        from tenure.state.arrays import kept_at  # noqa: PLC0415 (who shares arrays has numpy)

        return kept_at(turns.place)

    def _on_host(self) -> HostTurns:
        if sys.platform not in SYSTEMS:
            msg = f"workers cannot share `{self.name}` on {sys.platform}, only on Linux and macOS"
            raise StateUnavailable(msg, hint='make it in each worker, `@scoped("app")`')
        return HostTurns(current_deployment(), self._key)

    @asynccontextmanager
    async def _joined(self, turns: Turns) -> AsyncGenerator[None]:
        here = _running.setdefault((current_deployment(), self._key), [])
        self._refuse_another(here)
        here.append(self.resource)
        try:
            await turns.join()
            yield
        finally:
            here.remove(self.resource)
            await uninterrupted(turns.leave())

    def _refuse_another(self, here: list[Resource[Any]]) -> None:
        # Only a name that was given says that two are one.
        other = next((each for each in here if each.factory != self.resource.factory), None)
        if other is not None and self.resource.explicit_name is None:
            msg = f"two factories are called `{self.name}` here, and workers could not tell which is which"
            path = [f"declared at {other.location}", f"declared at {self.resource.location}"]
            raise DeclarationError(msg, path=path, hint=f'name each: `@scoped("{self.resource.scope}", name="…")`')

    async def _obtained(self, turns: Turns, arguments: Mapping[str, Any]) -> bytes:
        began = asyncio.get_running_loop().time()
        is_told = False
        while True:
            value = self.checked(await turns.outcome())
            if value is not None:
                return value
            async with turns.turn() as mine:
                if mine:
                    value = self.checked(await turns.outcome())
                    return value if value is not None else await self._run(turns, arguments, began)
            if not is_told:
                logger.info(
                    "%s is made by another process, and waited for",
                    self.name,
                    extra={"tenure_event": "once-waiting", "tenure_resource": self.name},
                )
                is_told = True
            await asyncio.sleep(turns.poll)

    async def _run(self, turns: Turns, arguments: Mapping[str, Any], began: float) -> bytes:
        async with self.telling(turns, began):
            async with self.open(**arguments) as made:
                value = self.written(made)
            await turns.keep(value)
        return value

    def checked(self, outcome: bytes | Failure | None) -> bytes | None:
        """
        Give the value, if there is one.

        Raises:
            OnceFailed: The process that was to make it could not.
        """
        if isinstance(outcome, Failure):
            raise OnceFailed(outcome.message, path=outcome.path, hint=outcome.hint)
        return outcome

    @asynccontextmanager
    async def telling(self, turns: Turns, began: float) -> AsyncGenerator[None]:
        """Tell those who wait when a start fails here, or is too slow; not when it is called off."""
        try:
            yield
        except LockLost:  # so another has the turn by now
            raise
        except (Exception, asyncio.CancelledError) as error:
            timeout = self.resource.start_timeout
            is_late = asyncio.get_running_loop().time() - began >= timeout - SLACK
            if isinstance(error, asyncio.CancelledError) and not is_late:
                raise
            what, hint = f"{type(error).__name__}: {error}", ""
            if isinstance(error, asyncio.CancelledError):
                what, hint = f"it was not ready after {timeout:g} s", "if it needs longer, give it a `start_timeout`"
            elif isinstance(error, TenureError):
                what, hint = error.message, error.hint
            msg = f"it failed in process {os.getpid()}, which ran it for all: {what}"
            path = error.path if isinstance(error, TenureError) else ()
            await uninterrupted(turns.fail(failure(msg, path, hint)))
            raise

    def written(self, made: object) -> bytes:
        """
        Write a value for the other processes.

        Raises:
            NotSerialisable: It is not of the type that the factory says, or not data.
            StateTooLarge: It is larger than `LARGEST_VALUE`.
        """
        try:
            return self._values.encode(made)
        except (NotSerialisable, StateTooLarge) as error:
            hint = (
                "return what others can make it from, as an address is, annotated (`-> bytes`, `-> Settings`); "
                'what is no data is made of that in each worker, `@scoped("app")`'
            )
            if isinstance(made, Service):
                hint = f"annotate it, `-> {type(made).__name__}`, and each worker joins the service"
            raise type(error)(error.message, hint=hint) from error.__cause__

    def read(self, value: bytes) -> Any:  # noqa: ANN401 (any value)
        """
        Read a value that this process or another has written.

        Raises:
            StateMismatch: It is of another type, as another version of the program writes it.
        """
        try:
            return self._values.decode(value)
        except Unreadable as error:
            hint = "let all workers of a deployment run the same program, or give this one another name"
            raise StateMismatch(str(error), hint=hint) from error


class _Keeping:
    """One process's part in keeping a generator open: it runs it, or waits to do so when the one that runs it ends."""

    def __init__(self, once: _Once, turns: HostTurns, arguments: Mapping[str, Any]) -> None:
        self._once = once
        self._turns = turns
        self._arguments = arguments
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._stop = asyncio.Event()
        self._is_opening = False
        self.ready: asyncio.Future[bytes] = loop.create_future()

    async def keep(self) -> bytes:
        """Run it whenever nobody else does, until the end; raises what fails before it is ready, or at the end."""
        pause = SHORTEST_PAUSE
        while not self._stop.is_set():
            try:
                async with self._turns.turn() as mine:
                    if mine:
                        await self._run()
                    elif not self.ready.done():
                        await self._look()
            except Exception:
                if self._stop.is_set() or not self.ready.done():
                    raise
                logger.exception(
                    "%s failed where it was run for all workers",
                    self._once.name,
                    extra={"tenure_event": "once-failed", "tenure_resource": self._once.name},
                )
                await self._paused(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                await self._paused(LOOK if self.ready.done() else self._turns.poll)
        return b""

    async def _look(self) -> None:
        value = self._once.checked(await self._turns.outcome())
        if value is not None:
            self.ready.set_result(value)

    async def _paused(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _run(self) -> None:
        outcome = await self._turns.outcome()
        if isinstance(outcome, Failure) and not self.ready.done():
            self._once.checked(outcome)
        before = outcome if isinstance(outcome, bytes) else None
        async with AsyncExitStack() as stack:
            self._is_opening = True
            try:
                value = await self._opened(stack)
            finally:
                self._is_opening = False
            self._tell(before, value)
            await self._stop.wait()
            await self._turns.clear()
            # What it was made for is not to end before its users have; half of the deadline is for its own end.
            if not await self._turns.left_alone(self._once.resource.close_timeout / 2):
                logger.warning(
                    "%s ends here while others use it; one of them is to run it anew",
                    self._once.name,
                    extra={"tenure_event": "once-handed-on", "tenure_resource": self._once.name},
                )

    async def _opened(self, stack: AsyncExitStack) -> bytes:
        await self._turns.clear()  # those who come now wait for the new value
        if self.ready.done():
            logger.warning(
                "%s is run here from now on: the process that ran it has ended it or gone",
                self._once.name,
                extra={"tenure_event": "once-taken-over", "tenure_resource": self._once.name},
            )
        async with AsyncExitStack() as telling:
            if not self.ready.done():
                await telling.enter_async_context(self._once.telling(self._turns, self._began))
            value = self._once.written(await stack.enter_async_context(self._once.open(**self._arguments)))
            await self._turns.keep(value)
        return value

    def _tell(self, before: bytes | None, value: bytes) -> None:
        known = self.ready.result() if self.ready.done() else before
        if known is not None and known != value:
            logger.error(
                "%s has another value now that it was run anew: restart the workers that started before, "
                "which have the old one",
                self._once.name,
                extra={"tenure_event": "once-changed", "tenure_resource": self._once.name},
            )
        if not self.ready.done():
            self.ready.set_result(value)

    async def end(self, task: asyncio.Task[bytes]) -> None:
        """End this process's part, and the generator if it runs here; raises what that raises."""
        self._stop.set()
        if self._is_opening or not self.ready.done():
            task.cancel()
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            asyncio._unregister_task(task)  # noqa: SLF001 (who waits may leave it behind, and so may the loop's end)
            await asyncio.wait([task])
            raise
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def _is_array(resource: Resource[Any], kind: Any) -> bool:  # noqa: ANN401 (any type)
    """
    Tell whether workers are to map what a resource makes.

    Raises:
        DeclarationError: They could not, as they are on several machines.
    """
    is_array = getattr(kind, "__name__", "") == "SharedArray" and getattr(kind, "__module__", "").startswith("tenure.")
    if is_array and resource.scope == "cluster":
        msg = f"the cluster-scoped `{resource.name}` gives an array of one machine's memory to all machines"
        raise DeclarationError(
            msg, path=[f"declared at {resource.location}"], hint='`@scoped("host")`: each machine makes one of its own'
        )
    return is_array


def _target(factory: Callable[..., Any]) -> Any:  # noqa: ANN401 (a function, whatever wraps it)
    function = inspect.unwrap(without_partial(factory))
    return function if inspect.isroutine(function) else type(function).__call__


def _key(resource: Resource[Any]) -> str:
    """Name what is done alike in all processes of a deployment, as a file may be named."""
    target = _target(resource.factory)
    name = resource.explicit_name or f"{target.__module__}.{target.__qualname__}"
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[-_TITLE_LENGTH:]
    told = f"{resource.explicit_name is None}\0{name}"
    return f"{readable}-{hashlib.sha256(told.encode(errors='surrogateescape')).hexdigest()[:_DIGITS]}"


def _kind(resource: Resource[Any]) -> Any:  # noqa: ANN401 (any type)
    """Give the type of the values, as the factory's return annotation says, or nothing for what JSON holds."""
    target = _target(resource.factory)
    annotation = evaluated(target, getattr(target, "__annotations__", {}).get("return"), "a value")
    if not resource.kind.closes:
        return annotation
    return next(iter(get_args(annotation)), None)
