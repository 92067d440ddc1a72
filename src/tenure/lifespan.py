"""The three ways in: `lifespan` for a server, `running` for a script or test, `override` for a test double."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from fastapi import FastAPI

from tenure.belonging import NOT_STARTED_HINT, STATE, running_app
from tenure.errors import DeclarationError, NotStarted
from tenure.factories import kind_of, opener
from tenure.fastapi.overrides import refuse_values

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence

    from tenure.fastapi.application import Application
    from tenure.fastapi.plan import Plan
    from tenure.fastapi.starting import Start
    from tenure.resources import Resource

T = TypeVar("T")

State = dict[str, Any]
_MISSING = object()


if TYPE_CHECKING:

    class Lifespan(Protocol):
        """What `FastAPI(lifespan=…)` takes."""

        def __call__(self, app: FastAPI, /) -> AbstractAsyncContextManager[State]:
            """Run an app for a block."""
            ...


class Scope:
    """
    A running app, or resources that run without one: where values are looked up outside of requests.

    It belongs to the process and event loop in which it was entered, and refuses others.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def get(self, resource: Resource[T]) -> T:
        """
        Give the value of an app-scoped resource, or of what overrode it when the app started.

        Raises:
            NotRunning: It is not in the plan, not started, closed, or started in another process or event loop.
        """
        value: T = await self._application.get(resource)
        return value

    def open(self, resource: Resource[T]) -> AbstractAsyncContextManager[T]:
        """
        Open a function- or request-scoped resource for one block, with whatever it needs.

        Raises:
            RequestData: It, or what it needs, takes something from a request.
        """
        return self._application.open(resource)


@overload
def lifespan(app: FastAPI, /) -> AbstractAsyncContextManager[State]: ...
@overload
def lifespan(
    mine: Callable[..., Any] | None = None,
    /,
    *,
    also: Sequence[Resource[Any]] = (),
    deployment: str | None = None,
    state: str | Resource[Any] | None = None,
    grace: float = 5,
    drain_delay: float = 0,
    start: Start = "before",
    wait: float = 5,
) -> Lifespan: ...
def lifespan(  # noqa: PLR0913 (each says something about the run of an app)
    app: FastAPI | Callable[..., Any] | None = None,
    /,
    *,
    also: Sequence[Resource[Any]] = (),
    deployment: str | None = None,
    state: str | Resource[Any] | None = None,
    grace: float = 5,
    drain_delay: float = 0,
    start: Start = "before",
    wait: float = 5,
) -> AbstractAsyncContextManager[State] | Lifespan:
    """
    Start what an app's routes need before the first request, and close it after the last.

    Use it as it is, ``FastAPI(lifespan=lifespan)``, or with a lifespan of your own and resources that no route needs,
    ``FastAPI(lifespan=lifespan(mine, also=[scheduler]))``. Your own runs inside: everything is started before it and
    closed after it; what it yields is kept in the lifespan state; parameters that it has beside the app are injected,
    if they live as long as the app.

    `deployment`, or the environment variable `TENURE_DEPLOYMENT`, names with whom the app shares what is host- or
    cluster-scoped: all workers that say the same name. Where neither does, the name is derived from the user, the
    project's folder and the app's title, and stands in the log; cluster-scoped state refuses to guess. `state`, or
    `TENURE_STATE`, is the URL of the Valkey, Redis or PostgreSQL in which machines share state;
    or `state` is a pool of `tenure.pools.asyncpg`, whose database then keeps it, over the app's own connections.

    `grace` is how many seconds requests, streams and websockets may go on when the server is told to end, by SIGTERM or
    SIGINT; what follows then still fits into the 10 that Docker gives, if closes take no longer than 3. Those that take
    `shutting_down` know of it at once. What is left after that is cancelled, so that the server goes on to the close.

    `drain_delay` is how many seconds SIGTERM is held back from the server, while the app serves as before but says that
    it is not ready, so that balancers send no more to it; only then the shutdown begins. Another signal, and SIGINT, go
    on at once; in development (`FASTAPI_ENV` is ``development``) each does. Where a server cannot do this, a warning at
    the start says so.

    `start="background"` lets the server listen while resources start. A request that needs what is not ready waits for
    it, up to `wait` seconds, and is then answered 503. What your own lifespan takes is waited for before the server
    listens. A start that fails is logged, what had started is closed, and requests that need any of it are answered
    503.

    Raises:
        DeclarationError: The deployment's name cannot be a folder's; or it has none, and something is cluster-scoped;
            or the URL is no engine's; or a number of seconds is below 0 or without end; or the start is neither.
        PlanError: The graph cannot work; nothing has started.
        StartFailed: A resource failed or was too slow; what had started is closed. Not in the background.
        CloseFailed: After everything was closed: what failed.
    """
    if isinstance(app, FastAPI):
        return _run(app, Composed(None, also, deployment, state, grace, drain_delay, start, wait))
    if app is not None and not callable(app):
        msg = f"lifespan({app!r}) is neither an app nor a lifespan of yours"
        raise DeclarationError(msg, hint="write `FastAPI(lifespan=lifespan)` or `FastAPI(lifespan=lifespan(mine))`")

    return Composed(app, also, deployment, state, grace, drain_delay, start, wait)


@dataclass(eq=False, repr=False)  # the rest takes as long to make as a module to import
class Composed:
    """A lifespan, with what was said to `lifespan`."""

    mine: Callable[..., Any] | None = None
    also: Sequence[Resource[Any]] = ()
    deployment: str | None = None
    state: str | Resource[Any] | None = None
    grace: float = 5
    drain_delay: float = 0
    start: Start = "before"
    wait: float = 5

    def __call__(self, app: FastAPI, /) -> AbstractAsyncContextManager[State]:
        """Run an app for a block."""
        return _run(app, self)

    def plan(self, app: FastAPI | None) -> Plan:
        """Find what an app would start."""
        from tenure.fastapi.plan import Plan  # noqa: PLC0415 (to declare, nothing of what runs is needed)

        return Plan(app, also=self.also, lifespan=self.mine, deployment=self.deployment, state=self.state)


def planned(app: FastAPI) -> Plan:
    """
    Find what an app would start, without starting or checking anything.

    Raises:
        NotStarted: The app does not have tenure's lifespan.
        DeclarationError: Something was declared that cannot be.
    """
    from tenure.fastapi.plan import lifespans_of  # noqa: PLC0415 (as above)

    for each in lifespans_of(app):
        if isinstance(each, Composed):
            return each.plan(app)
        if each is lifespan:
            return Composed().plan(app)
    msg = f"{app!r} does not have tenure's lifespan"
    raise NotStarted(msg, hint=NOT_STARTED_HINT)


def is_served(app: FastAPI, resource: Resource[Any]) -> bool:
    """
    Tell whether workers of an app run on this machine that share a resource which lives in a process of its own.

    For a command that is to join them, and not to be the first. Blocks a little.

    Raises:
        NotStarted: The app does not have tenure's lifespan.
        DeclarationError: The resource does not live in a process of its own, or in one of a Ray cluster.
    """
    from tenure.remote import joining  # noqa: PLC0415 (as above)
    from tenure.remote.hosted import apart_of  # noqa: PLC0415 (likewise)
    from tenure.state.deployments import deployment_name  # noqa: PLC0415 (likewise)

    apart = apart_of(resource)
    if apart is None or apart.is_in_cluster:
        msg = f"`{resource.name}` does not live in a process of its own on this machine"
        raise DeclarationError(msg, path=[f"declared at {resource.location}"])
    return joining.is_served(apart, deployment_name(planned(app).deployment, title=app.title))


@asynccontextmanager
async def _run(app: FastAPI, composed: Composed) -> AsyncGenerator[State]:
    if not isinstance(app, FastAPI):
        msg = f"tenure's lifespan was given {app!r}, which is not a FastAPI app"
        raise DeclarationError(msg, hint="give it to the outermost FastAPI app, `FastAPI(lifespan=lifespan)`")
    mine = composed.mine
    application = _application()(
        composed.plan(app),
        grace=composed.grace,
        drain_delay=composed.drain_delay,
        start=composed.start,
        wait=composed.wait,
    )
    _observe(application)
    async with application.run():
        if mine is None:
            async with application.drain.served():
                yield {STATE: application}
        else:
            arguments = await application.lifespan_arguments()
            async with opener(partial(mine, app), kind_of(mine))(**arguments) as state, application.drain.served():
                yield {**(state or {}), STATE: application}


def _application() -> type[Application]:
    from tenure.fastapi.application import Application  # noqa: PLC0415 (to declare, nothing of what runs is needed)

    return Application


def _observe(application: Application) -> None:
    """Let OpenTelemetry be told of an app, where its API is installed; FastAPI has imported it, where that has one."""
    try:
        from tenure.ops.telemetry import Telemetry  # noqa: PLC0415 (as above)
    except ImportError:
        return
    application.observers.add(Telemetry(application))


@asynccontextmanager
async def running(app: FastAPI | None = None, *, also: Sequence[Resource[Any]] = ()) -> AsyncGenerator[Scope]:
    """
    Run an app outside of a server, as a script, a worker or a test does; without an app, only the resources of `also`.

    The app's whole lifespan runs, your own part included, so that requests sent to it in-process are answered as well.
    What starts in the background is waited for.

    Raises:
        NotStarted: The app does not have tenure's lifespan.
        PlanError: The graph cannot work; nothing has started.
        StartFailed: A resource failed or was too slow; what had started is closed.
        CloseFailed: After everything was closed: what failed.
    """
    if app is None:
        application = _application()(Composed(also=also).plan(None))
        _observe(application)
        async with application.run():
            yield Scope(application)
        return
    if also:
        msg = "running(app, also=[…]) has both an app and resources"
        raise DeclarationError(msg, hint="an app names its resources itself: `FastAPI(lifespan=lifespan(also=[…]))`")
    async with app.router.lifespan_context(app):
        found = running_app(app)
        if not isinstance(found, _application()) or not found.here:
            msg = f"`running` was given {app!r}, which does not have tenure's lifespan"
            raise NotStarted(msg, hint=NOT_STARTED_HINT)
        await found.starting.until_done()
        yield Scope(found)


@contextmanager
def override(app: FastAPI, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Generator[None]:
    """
    Replace dependencies of an app for a block, as its `dependency_overrides` do, and put back what was there before.

    Entered before the app starts, what overrides an app-scoped resource is started once in its place, and the real one
    never is. Entered while the app runs, FastAPI calls it for each request; what was built on the real one keeps it.

    Raises:
        OverrideError: A replacement is not a dependency: give ``lambda: fake``, not ``fake``.
    """
    refuse_values(overrides)
    before = {call: app.dependency_overrides.get(call, _MISSING) for call in overrides}
    app.dependency_overrides.update(overrides)
    try:
        yield
    finally:
        for call, was in before.items():
            if was is _MISSING:
                app.dependency_overrides.pop(call, None)
            else:
                app.dependency_overrides[call] = was  # type: ignore[assignment]
