"""The declaration: `scoped` turns a factory into a `Resource`, which says where its value lives and runs nothing."""

from __future__ import annotations

import asyncio
import inspect
import sys
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, Unpack, overload

from fastapi.params import Depends
from starlette.requests import HTTPConnection

from tenure import belonging
from tenure.calls import Step, drawn, location_of, name_of, parameters_of, type_and_marks
from tenure.cycles import cycles
from tenure.errors import CalledDirectly, DeclarationError, DependencyCycle
from tenure.factories import Kind, kind_of, opener, without_partial
from tenure.scopes import SCOPES, SERVED, ScopeName, is_shared, outlives_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from contextlib import (
        AbstractAsyncContextManager,
        AbstractContextManager,
        _AsyncGeneratorContextManager,
        _GeneratorContextManager,
    )

    from tenure.checks import Check, Health, Verdict, Words
    from tenure.remote.handle import Remote

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
V = TypeVar("V", bound="Verdict | Awaitable[Verdict]")

CONNECTION = "tenure_connection"
"""The parameter by which FastAPI hands a resource the request or websocket that it is solved for."""


class Resource(Generic[T_co]):
    """
    A dependency that says how long it lives: what FastAPI's `Depends` takes, and the key for overrides and look-ups.

    Made by `scoped`. It holds no value: each running app keeps its own, so one declaration serves many apps, event
    loops and tests at once.

    Attributes:
        factory: The function, class or method that makes the value, as it was before `scoped`; unit tests may call it.
        scope: How long a value lives and how far it reaches.
        name: What logs and errors call it, the factory's name unless given.
        start_timeout: Seconds that the start may take before it counts as failed.
        close_timeout: Seconds that the close may take before it is cancelled, and then left behind.
        location: ``file:line`` of the declaration.
        context: Called with what the factory takes, gives an async context manager that makes a value and ends it.
    """

    def __init__(  # noqa: PLR0913 (each is a word of the declaration)
        self,
        factory: Callable[..., Any],
        *,
        scope: ScopeName,
        name: str | None = None,
        start_timeout: float = 30,
        close_timeout: float = 10,
        location: str | None = None,
    ) -> None:
        if scope not in SCOPES:
            msg = f"there is no scope {scope!r}"
            raise DeclarationError(msg, hint=f"use one of {', '.join(SCOPES)}")
        if isinstance(factory, Resource) or not callable(factory):
            msg = f"{factory!r} cannot be a resource's factory"
            raise DeclarationError(msg, hint="decorate a function, generator, class or method, once")
        if not (start_timeout > 0 and close_timeout > 0):
            msg = f"start_timeout={start_timeout} and close_timeout={close_timeout} must be above 0 seconds"
            raise DeclarationError(msg)
        self.factory = factory
        self.scope: ScopeName = scope
        self.explicit_name = name
        self.start_timeout = start_timeout
        self.close_timeout = close_timeout
        self.kind: Kind = kind_of(factory)
        self.context = opener(factory, self.kind)
        self._location = location
        self._method_name: str | None = None
        self._connection_parameter: str | None = None
        self._is_no_cycle = False
        self._checks: list[Check] = []
        self._method_of: tuple[Resource[Any], object] | None = None
        self.__doc__ = factory.__doc__
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    @property
    def name(self) -> str:
        """What logs and errors call it."""
        return self.explicit_name or name_of(self.factory)

    __name__ = name  # what FastAPI and other tools call a dependency

    @property
    def is_done_once(self) -> bool:
        """Whether it is made for all that share its scope: data by one process; a service is joined by each."""
        return is_shared(self.scope)

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits for it while its app starts in the background."""
        return True

    @property
    def holds_as(self) -> ScopeName:
        """The scope that says what it may hold: its own, unless each process makes one for itself."""
        return self.scope

    def lacks(self, state: str | None) -> str:
        """Say what would serve its scope, when nothing does; `state` is the URL of the engine for shared state."""
        if self.scope in SERVED:
            return ""
        if self.scope == "host" or inspect.isclass(without_partial(self.factory)):
            return ""  # Ray serves a class at "cluster", and is looked for at the start
        if self.kind.closes:
            return 'share it among the workers of a machine, `scope="host"`: a cluster has none that would end it'
        return (
            ""
            if state
            else 'say where machines share its value, `lifespan(state="valkey://host:6379")`, or set TENURE_STATE'
        )

    @property
    def location(self) -> str:
        """``file:line`` of the declaration: where the factory is written, unless another place was given."""
        return self._location or location_of(self.factory)

    @property
    def checks(self) -> list[Check]:
        """Its health checks, those of the method that it is bound from among them."""
        declaration, instance = self._method_of or (None, None)
        above = [check.bound(instance) for check in declaration.checks] if declaration is not None else []
        found = [*above, *self._checks]
        if not found:
            return found
        from tenure.checks import effective  # noqa: PLC0415 (which most resources need not load)

        return effective(found)

    def add_check(self, check: Check) -> None:
        """
        Add a health check.

        Raises:
            DeclarationError: There is no value between requests that could be checked.
        """
        if not outlives_requests(self.scope):
            msg = f"{self.scope}-scoped `{self.name}` has a health check, and there is no value between requests"
            raise DeclarationError(msg, hint="check what it is made of, such as the pool that it borrows from")
        self._checks.append(check)

    @overload
    def health(self, check: Callable[[T_co], V], /) -> Callable[[T_co], V]: ...
    @overload
    def health(self, check: Callable[[Any, T_co], V], /) -> Callable[[Any, T_co], V]: ...
    @overload
    def health(self, /, **words: Unpack[Words]) -> Health[T_co]: ...
    def health(self, check: Callable[..., Any] | None = None, /, **words: Unpack[Words]) -> Callable[..., Any]:
        """
        Declare a health check of the value: ``@pool.health``, or with words ``@pool.health(critical=True)``.

        The function gets the value. It fails where it gives False, raises or takes too long; it gives
        `tenure.ops.Degraded` where the resource works, but not well. A sync one runs in a thread. It stays the function
        that it was. Checks run in the background, where the app has `tenure.ops.ops_router`; what overrides the
        resource in tests is not checked.

        Args:
            check: The function; in a class, beside the method that is the resource, a method.
            words: `name`, what it is called, unique within an app, the resource's name unless given; `timeout`, seconds
                that it may take, 0.8; `every`, seconds from one run to the next, 5; `critical`, whether the app is not
                ready while it fails, and gets no requests, which is not so; `tags`, the groups that it is in.

        Raises:
            DeclarationError: The resource has no value between requests, the function takes something else, or a time
                is not above 0.
        """
        from tenure.checks import Health  # noqa: PLC0415 (which most resources need not load)

        health: Health[T_co] = Health(self, words)
        return health if check is None else health(check)

    def __repr__(self) -> str:
        return f"<{self.scope}-scoped {self.name} at {self.location}>"

    if not TYPE_CHECKING:  # to a type checker, `pool.acquire()` on the declaration is to be wrong

        def __getattr__(self, attribute: str) -> Signature:
            # FastAPI reads the signature when a route is declared: only then is every name in the annotations defined.
            if attribute != "__signature__":
                raise AttributeError(attribute)
            signature = self.__dict__["__signature__"] = self._read_signature()
            return signature

    def _read_signature(self) -> Signature:
        parameters: list[Parameter] = []
        if not outlives_requests(self.scope):
            _refuse_cycle(self)
            parameters = parameters_of(self.factory)
        # FastAPI fills one parameter of this type for each dependency, so the factory's own serves where it has one.
        own = next((each.name for each in parameters if type_and_marks(each)[0] is HTTPConnection), None)
        if own is None:
            parameters.append(Parameter(CONNECTION, Parameter.KEYWORD_ONLY, annotation=HTTPConnection))
        self._connection_parameter = own
        return Signature(sorted(parameters, key=lambda parameter: parameter.kind))

    def __call__(self, *args: object, **inputs: Any) -> Awaitable[Any]:  # noqa: ANN401 (FastAPI's solved inputs)
        """Give the value for a request; called by FastAPI, with what it solved for the factory's parameters."""
        own = self._connection_parameter
        connection = inputs.get(own) if own else inputs.pop(CONNECTION, None)
        if args or not isinstance(connection, HTTPConnection):
            msg = f"`{self.name}` is a resource and was called by hand"
            raise CalledDirectly(
                msg,
                path=[f"declared at {self.location}"],
                hint=f"write `Depends({self.name})`, without brackets; "
                f"`{self.name}.factory(...)` calls the function itself",
            )
        return belonging.find(connection, self.name).solve(self, connection, inputs)

    # FastAPI awaits what is marked so, and runs anything else in a worker thread. A plain function that is marked,
    # instead of an `async def`, can refuse `Depends(pool())` on the spot. The instance is marked too: older versions
    # look at that, and not at its `__call__`, as `__get__` makes it a routine.
    if sys.version_info >= (3, 12):
        __call__ = inspect.markcoroutinefunction(__call__)
    else:
        _is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined] # noqa: SLF001
        __call__._is_coroutine = _is_coroutine  # type: ignore[attr-defined] # noqa: SLF001

    def made_by(
        self,
        factory: Callable[..., Any],
        *,
        name: str | None,
        scope: ScopeName | None = None,
        location: str | None = None,
    ) -> Resource[Any]:
        """Give a resource whose value another factory makes, and which has as long to start and to close as this."""
        return Resource(
            factory,
            scope=scope or self.scope,
            name=name,
            start_timeout=self.start_timeout,
            close_timeout=self.close_timeout,
            location=location,
        )

    def __set_name__(self, owner: type, name: str) -> None:
        # A resource that is only kept in a class, made elsewhere, must not be bound to the instances.
        written_here = inspect.isfunction(self.factory) and self.factory.__qualname__ == f"{owner.__qualname__}.{name}"
        self._method_name = name if written_here else None

    def __get__(self, instance: object, owner: type | None = None) -> Resource[T_co]:
        """Give the resource itself, or for a method its twin that is bound to the instance, the same one each time."""
        if instance is None or self._method_name is None:
            return self
        if not hasattr(instance, "__dict__"):
            msg = f"`{self.name}` is a method of {type(instance).__qualname__}, whose objects have slots alone"
            hint = "drop `slots=True`, or add `__dict__` to the slots: each object keeps a resource of its own there"
            raise DeclarationError(msg, path=[f"declared at {self.location}"], hint=hint)
        bound: Resource[T_co] = self.made_by(self.factory.__get__(instance), name=self.explicit_name)
        bound._method_of = self, instance
        instance.__dict__[self._method_name] = bound  # found before this method from now on
        return bound


if TYPE_CHECKING:

    class _ScopedShared(Protocol):
        """What `scoped("host")` gives, to a type checker: a class becomes a handle on its one object."""

        @overload
        def __call__(self, factory: type[T], /) -> Resource[Remote[T]]: ...
        @overload
        def __call__(self, factory: Callable[..., AsyncIterator[T]], /) -> Resource[T]: ...
        @overload
        def __call__(self, factory: Callable[..., Iterator[T]], /) -> Resource[T]: ...
        @overload
        def __call__(self, factory: Callable[..., Coroutine[Any, Any, T]], /) -> Resource[T]: ...
        @overload
        def __call__(self, factory: Callable[..., T], /) -> Resource[T]: ...
        def __call__(self, factory: Callable[..., Any], /) -> Resource[Any]:
            """Declare that what this factory makes is shared."""
            ...


class Scoped:
    """What `scoped(...)` gives: it takes the factory. Its overloads tell a type checker what the value is."""

    def __init__(self, scope: ScopeName, name: str | None, start_timeout: float, close_timeout: float) -> None:
        self._scope: ScopeName = scope
        self._name = name
        self._start_timeout = start_timeout
        self._close_timeout = close_timeout

    @overload
    def __call__(self, factory: type[AbstractAsyncContextManager[T, Any]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: type[AbstractContextManager[T, Any]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: type[T], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: Callable[..., _AsyncGeneratorContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: Callable[..., _GeneratorContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: Callable[..., AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: Callable[..., Iterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: Callable[..., Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, factory: Callable[..., T], /) -> Resource[T]: ...
    def __call__(self, factory: Callable[..., Any], /) -> Resource[Any]:
        """Declare that what this factory makes is a resource of the scope."""
        return Resource(
            factory,
            scope=self._scope,
            name=self._name,
            start_timeout=self._start_timeout,
            close_timeout=self._close_timeout,
        )


@overload
def scoped(  # type: ignore[overload-overlap] # the first that fits is taken
    scope: Literal["host", "cluster"], *, name: str | None = ..., start_timeout: float = ..., close_timeout: float = ...
) -> _ScopedShared: ...
@overload
def scoped(
    scope: ScopeName, *, name: str | None = ..., start_timeout: float = ..., close_timeout: float = ...
) -> Scoped: ...
def scoped(
    scope: ScopeName, *, name: str | None = None, start_timeout: float = 30, close_timeout: float = 10
) -> Scoped | _ScopedShared:
    """
    Say how long a dependency lives and how far it reaches.

    Decorates async and sync generators, functions, classes and methods. Sync ones run in a thread; a class that is a
    context manager is entered. The result is what `Depends` takes, the key in `dependency_overrides`, and the key for
    `scope.get`.

    Args:
        scope: ``"function"``: one value for each call of a handler, closed after the answer is serialised and before
            its first byte is sent. ``"request"``: one for each request, closed after the answer, streamed body and
            background tasks. ``"app"``: one for each app, process and event loop, started before the first request and
            closed after the last. ``"host"``: a function's or generator's value, which is data, made by the first
            worker of a machine for all; or a service, which each joins; or a class, whose one object lives in a process
            of its own, and each worker has a handle on it, `Remote`. ``"cluster"``: a function's value, made by the
            first of all machines.
        name: What logs and errors call it, and unique within an app; the factory's name unless given.
        start_timeout: Seconds that the start of what is app-scoped or wider may take.
        close_timeout: Seconds that its close may take.

    Raises:
        DeclarationError: The scope is unknown, the factory cannot be called, or a timeout is not above 0.
    """
    return Scoped(scope, name, start_timeout, close_timeout)


def _refuse_cycle(resource: Resource[Any]) -> None:
    """Refuse request-time dependencies that need each other: FastAPI would follow them round without end."""
    walked: list[Callable[..., Any]] = []

    def needs(call: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
        walked.append(call)
        return _needs(call)

    roots: list[Callable[..., Any]] = [resource]
    for chain in cycles(roots, needs):
        raise DependencyCycle(name_of(chain[0]), path=drawn([step_of(call) for call in chain]))
    for each in walked:
        if isinstance(each, Resource):
            each._is_no_cycle = True  # noqa: SLF001 (its own kind)


def _needs(call: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    if isinstance(call, Resource):
        if call._is_no_cycle or outlives_requests(call.scope):  # noqa: SLF001 (its own kind)
            return
        call = call.factory
    for parameter in parameters_of(call):
        kind, marks = type_and_marks(parameter)
        if mark := next((mark for mark in marks if isinstance(mark, Depends)), None):
            yield mark.dependency or kind


def step_of(call: Callable[..., Any]) -> Step:
    """Give a dependency as a line of a drawn path; a plain one has no scope of its own."""
    if isinstance(call, Resource):
        return Step(call.name, call.scope, call.location)
    return Step(name_of(call), "", location_of(call))
