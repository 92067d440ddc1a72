"""What a factory is, and how its value is opened and closed: every kind becomes one async context manager."""

from __future__ import annotations

import asyncio
import enum
import inspect
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from tenure.threads import in_spare_worker, in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType

    from tenure.threads import RunSync


class Kind(enum.Enum):
    """How a factory makes its value, and whether there is something to close."""

    ASYNC_GENERATOR = enum.auto()
    GENERATOR = enum.auto()
    ASYNC_CONTEXT = enum.auto()
    CONTEXT = enum.auto()
    COROUTINE = enum.auto()
    FUNCTION = enum.auto()

    @property
    def closes(self) -> bool:
        """Whether a value of this kind has an end of its own."""
        return self not in {Kind.COROUTINE, Kind.FUNCTION}


def without_partial(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Give what is called in the end, by way of whatever `functools.partial` has bound."""
    while isinstance(factory, partial):
        factory = factory.func
    return factory


def kind_of(factory: Callable[..., object]) -> Kind:
    """Tell what a factory is: a class by its context-manager methods, anything else by how it is written."""
    factory = without_partial(factory)
    if inspect.isclass(factory):
        if hasattr(factory, "__aenter__"):
            return Kind.ASYNC_CONTEXT
        return Kind.CONTEXT if hasattr(factory, "__enter__") else Kind.FUNCTION
    if not inspect.isroutine(factory):
        return _written_as(type(factory).__call__)
    return _written_as(factory)


def _written_as(function: Callable[..., object]) -> Kind:
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(function):
        return Kind.GENERATOR
    if inspect.iscoroutinefunction(function):
        return Kind.COROUTINE
    unwrapped = inspect.unwrap(function)  # `@asynccontextmanager` and `@contextmanager` wrap a generator function
    if inspect.isasyncgenfunction(unwrapped):
        return Kind.ASYNC_CONTEXT
    return Kind.CONTEXT if inspect.isgeneratorfunction(unwrapped) else Kind.FUNCTION


def opener(
    factory: Callable[..., Any],
    kind: Kind,
    *,
    enter_in: RunSync = in_worker,
    exit_in: RunSync = in_spare_worker,
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """
    Give what takes a factory's arguments, and gives an async context manager.

    That makes a value on enter and ends it on exit; a sync factory's in threads.
    """
    match kind:
        case Kind.ASYNC_GENERATOR:
            return asynccontextmanager(factory)
        case Kind.ASYNC_CONTEXT:
            return factory
        case Kind.GENERATOR:
            return _threaded(contextmanager(factory), enter_in, exit_in)
        case Kind.CONTEXT:
            return _threaded(factory, enter_in, exit_in)
        case Kind.COROUTINE | Kind.FUNCTION:

            @asynccontextmanager
            async def making(**arguments: object) -> AsyncGenerator[Any]:
                yield await made(factory, kind, arguments, enter_in)

            return making


async def made(
    factory: Callable[..., Any], kind: Kind, arguments: Mapping[str, object], run_in: RunSync = in_worker
) -> Any:  # noqa: ANN401 (any value)
    """Make the value of a factory that has nothing to close; a sync one in a thread."""
    if kind is Kind.COROUTINE:
        return await factory(**arguments)
    return await run_in(partial(factory, **arguments))


def _threaded(
    make: Callable[..., AbstractContextManager[Any]], enter_in: RunSync, exit_in: RunSync
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    def in_thread(**arguments: object) -> _InThread:
        return _InThread(partial(make, **arguments), enter_in, exit_in)

    return in_thread


class _InThread:
    """A sync context manager whose making, enter and exit run in worker threads."""

    def __init__(self, make: Callable[[], AbstractContextManager[Any]], enter_in: RunSync, exit_in: RunSync) -> None:
        self._make = make
        self._enter_in = enter_in
        self._exit_in = exit_in
        self._context: AbstractContextManager[Any] | None = None

    async def __aenter__(self) -> Any:  # noqa: ANN401 (any value)
        try:
            return await self._enter_in(self._enter)
        except asyncio.CancelledError as error:  # a thread cannot be interrupted: what it has opened by now is closed
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    def _enter(self) -> Any:  # noqa: ANN401 (any value)
        context = self._make()
        value = context.__enter__()
        self._context = context
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._context is None:
            return None
        suppressed: bool | None = await self._exit_in(partial(self._context.__exit__, kind, error, traceback))
        return suppressed
