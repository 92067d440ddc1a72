"""`Remote`: a handle on an object that lives in another process, whose methods are called by way of its class."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from tenure.errors import DeclarationError
from tenure.remote.hosted import is_idempotent
from tenure.remote.signatures import signature_of
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Caller(Protocol):
    """What brings a call to the object."""

    def call(self, order: list[Any], *, seconds: float, again: bool) -> Coroutine[Any, Any, Any]:
        """Call a method."""
        ...

    def stream(self, order: list[Any], *, seconds: float) -> AsyncGenerator[Any]:
        """Call a generator."""
        ...


class Remote(Generic[T]):
    """
    A handle on an object of the class `T` that lives in a process of its own.

    At `host` scope it is one for all workers of this machine, at `cluster` scope for all machines of a Ray cluster.

    A call names the method by the class, and is typed by it: ``await model(Model.search, text, top=3)``; of a
    generator, ``async for word in model(Model.words, text)``. Arguments and answers cross as data: what JSON can hold,
    bytes, tuples, dataclasses, Pydantic's models, numpy's arrays of numbers; each side has a copy. An array must not be
    changed while it is sent. An error of the object's is raised here, with its traceback as a note.

    A call whose caller is cancelled is called off: it does not begin if it has not, and an async method is cancelled.
    When the process ends under a call, that raises `OwnerDied`; a method marked `@idempotent` is called once more. The
    next call finds the new process, whose object is made anew: what the old one kept in memory is lost.

    Belongs to one app, process and event loop.
    """

    def __init__(self, caller: Caller, kind: type[T], seconds: float) -> None:
        self._caller = caller
        self._kind = kind
        self._seconds = seconds

    def within(self, seconds: float) -> Remote[T]:
        """
        Give the same handle with another deadline for each call, from when it is made, or each item of a stream.

        Raises:
            DeclarationError: It is not above 0.
        """
        if not seconds > 0:
            msg = f"a call is to be answered within {seconds} seconds"
            raise DeclarationError(msg, hint="give it a time above 0")
        return type(self)(self._caller, self._kind, seconds)

    @overload
    def __call__(  # type: ignore[overload-overlap] # the first that fits is taken
        self, method: Callable[Concatenate[T, P], AsyncIterator[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap] # likewise
        self, method: Callable[Concatenate[T, P], Iterator[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[R]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[T, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[T, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def __call__(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """
        Make a call of one of the object's methods; nothing is sent before it is awaited, or iterated over.

        Raises:
            DeclarationError: It is no public method of the class.
            OwnerDied: The process ended meanwhile.
            OwnerBusy: As many calls wait as may; it has not run.
            CallTimeout: It was not answered in time; it may run on.
            NotSerialisable: An argument or the answer is no data.
            StateTooLarge: It is larger than may be sent.
            AlreadyClosed: The app has closed the handle.
        """
        name = self._name(method)
        order: list[Any] = [name, list(args), kwargs]  # a tuple would be one on the other side too, which costs more
        signature = signature_of(method)
        if signature.streams:
            return self._stream(method, order)
        return self._call(method, order)

    def _name(self, method: Callable[..., Any]) -> str:
        name = str(getattr(method, "__name__", ""))
        if name.startswith("_") or getattr(self._kind, name, None) is not method:
            msg = f"{method!r} is no public method of {self._kind.__qualname__}"
            raise DeclarationError(msg, hint=f"name it by the class: `await handle({self._kind.__name__}.method, …)`")
        return name

    async def _call(self, method: Callable[..., Any], order: list[Any]) -> Any:  # noqa: ANN401 (any value)
        answer = await self._caller.call(order, seconds=self._seconds, again=is_idempotent(method))
        return signature_of(method).answer(answer)

    async def _stream(self, method: Callable[..., Any], order: list[Any]) -> AsyncGenerator[Any]:
        stream, signature = self._caller.stream(order, seconds=self._seconds), signature_of(method)
        try:
            async for item in stream:
                yield signature.answer(item)
        finally:
            await stream.aclose()


class _Here:
    """Calls an object of this process."""

    def __init__(self, served: Any) -> None:  # noqa: ANN401 (any object)
        self._served = served

    async def call(self, order: list[Any], *, seconds: float, again: bool) -> Any:  # noqa: ANN401 (any value)
        del seconds, again
        name, args, kwargs = order
        method = getattr(self._served, name)
        if inspect.iscoroutinefunction(method):
            return await method(*args, **kwargs)
        return await in_worker(partial(method, *args, **kwargs))

    async def stream(self, order: list[Any], *, seconds: float) -> AsyncGenerator[Any]:
        del seconds
        name, args, kwargs = order
        items = getattr(self._served, name)(*args, **kwargs)
        if inspect.isasyncgen(items):
            async for item in items:
                yield item
        else:
            for item in items:
                yield item


def local(served: T) -> Remote[T]:
    """
    Give a handle on an object of this process, such as a double in a test.

    As an override, ``{model: lambda: local(FakeModel())}``. Its methods are found by name, so it need not be of the
    real class. Sync ones run in a thread.
    """
    return cast("Remote[T]", _Local(_Here(served), type(served), 0))


class _Local(Remote[T]):
    """A handle on a double, which has the methods of a class without being of it."""

    def _name(self, method: Callable[..., Any]) -> str:
        return str(getattr(method, "__name__", ""))
