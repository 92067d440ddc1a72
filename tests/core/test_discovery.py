"""What is found on an app: everything that its routes need wherever they are, once, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount, Router

from tenure import Resource, lifespan, running, scoped
from tenure.errors import DeclarationError, NotStarted, PlanError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Pool:
    """Something that is to be one for an app."""


class Log(list[str]):
    """What was opened and closed, in order."""

    def resource(self, name: str = "pool", *needs: Resource[Any]) -> Resource[Pool]:
        """Declare an app-scoped resource that notes its start and its end."""

        async def factory(**_needed: Any) -> AsyncIterator[Pool]:
            self.append(f"open {name}")
            yield Pool()
            self.append(f"close {name}")

        setattr(factory, "__signature__", signature_of(*needs))  # noqa: B010 (functions declare no such attribute)
        return scoped("app", name=name)(factory)


def signature_of(*needs: Callable[..., Any]) -> Signature:
    """Make the signature of a function that takes these dependencies."""
    marks = [Annotated[Any, Depends(need)] for need in needs]
    return Signature([Parameter(f"n{k}", Parameter.KEYWORD_ONLY, annotation=mark) for k, mark in enumerate(marks)])


@pytest.fixture
def log() -> Log:
    """Give a log."""
    return Log()


def identity_of(resource: Resource[Pool]) -> Callable[..., Any]:
    """Make a handler that answers with the identity of what it gets."""

    def handler(it: Pool = Depends(resource)) -> int:
        return id(it)

    return handler


def router_with(resource: Resource[Pool], path: str = "/it") -> APIRouter:
    """Make a router with one route, which needs the resource."""
    router = APIRouter()
    router.add_api_route(path, identity_of(resource))
    return router


def nothing() -> None:
    """Handle a request."""


def started_with(app: FastAPI, log: Log) -> list[str]:
    """Start and stop an app, and give what was opened by the time of its first request."""
    with TestClient(app):
        return list(log)


def answers(app: FastAPI, *paths: str) -> list[Any]:
    """Give what an app answers at each path."""
    with TestClient(app) as client:
        return [client.get(path).json() for path in paths]


# --- where routes are -------------------------------------------------------------------------------------------------


def test_a_route_of_the_app(log: Log) -> None:
    """What a route needs is started before the first request, and closed after the last."""
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", identity_of(log.resource()))
    assert started_with(app, log) == ["open pool"]
    assert log == ["open pool", "close pool"]


def test_a_router_in_a_router_in_a_router(log: Log) -> None:
    """Included routers are walked at any depth."""
    inner, middle, outer = router_with(log.resource()), APIRouter(), APIRouter()
    middle.include_router(inner, prefix="/inner")
    outer.include_router(middle, prefix="/middle")
    app = FastAPI(lifespan=lifespan)
    app.include_router(outer, prefix="/outer")
    (answer,) = answers(app, "/outer/middle/inner/it")
    assert isinstance(answer, int)
    assert log == ["open pool", "close pool"]


def test_a_router_included_twice(log: Log) -> None:
    """A router under two prefixes shares its one instance."""
    router = router_with(log.resource())
    app = FastAPI(lifespan=lifespan)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    first, second = answers(app, "/v1/it", "/v2/it")
    assert first == second
    assert log == ["open pool", "close pool"]


def test_a_websocket(log: Log) -> None:
    """What only a websocket needs is started too."""
    pool = log.resource()
    app = FastAPI(lifespan=lifespan)

    async def socket(websocket: WebSocket, it: Pool = Depends(pool)) -> None:
        await websocket.accept()
        await websocket.send_text(type(it).__name__)
        await websocket.close()

    app.add_api_websocket_route("/ws", socket)
    with TestClient(app) as client, client.websocket_connect("/ws") as connected:
        assert log == ["open pool"]
        assert connected.receive_text() == "Pool"


@pytest.mark.parametrize("place", ["app", "router", "include", "route"])
def test_dependencies_without_a_parameter(log: Log, place: str) -> None:
    """What `dependencies=[…]` of an app, a router, an inclusion or a route names is needed by the routes there."""
    here = {place: [Depends(log.resource())]}
    router = APIRouter(dependencies=here.get("router"))
    router.add_api_route("/", nothing, dependencies=here.get("route"))
    app = FastAPI(lifespan=lifespan, dependencies=here.get("app"))
    app.include_router(router, prefix="/r", dependencies=here.get("include"))
    assert started_with(app, log) == ["open pool"]


def test_what_dependencies_need(log: Log) -> None:
    """What a route needs by way of plain functions, request-scoped resources and other resources is found."""
    settings = log.resource("settings")
    pool = log.resource("pool", settings)

    def plain(it: Pool = Depends(pool)) -> Pool:
        return it

    def session(it: Pool = Depends(plain)) -> Pool:
        return it

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", nothing, dependencies=[Depends(scoped("request")(session))])
    with TestClient(app):
        pass
    assert log == ["open settings", "open pool", "close pool", "close settings"]


# --- mounted apps -----------------------------------------------------------------------------------------------------


def test_a_router_included_twice_and_an_app_mounted_twice_share_one_instance(log: Log) -> None:
    """One instance for the outer app, started before the first request, is the same object from all four paths."""
    pool = log.resource()
    mounted = FastAPI()
    mounted.include_router(router_with(pool))
    app = FastAPI(lifespan=lifespan)
    for version in ("/v1", "/v2"):
        app.include_router(router_with(pool), prefix=version)
        app.mount(f"/mounted{version}", mounted)
    assert len(set(answers(app, "/v1/it", "/v2/it", "/mounted/v1/it", "/mounted/v2/it"))) == 1
    assert log == ["open pool", "close pool"]


def test_an_app_mounted_in_a_mounted_app(log: Log) -> None:
    """The outer app starts what an app two mounts down needs, and hands it out there."""
    pool = log.resource()
    inner, middle, app = FastAPI(), FastAPI(), FastAPI(lifespan=lifespan)
    inner.add_api_route("/it", identity_of(pool))
    middle.mount("/inner", inner)
    app.mount("/middle", middle)
    app.add_api_route("/it", identity_of(pool))
    assert len(set(answers(app, "/it", "/middle/inner/it"))) == 1
    assert log == ["open pool", "close pool"]


def test_each_outer_app_has_its_own_instance(log: Log) -> None:
    """One app mounted in two outer apps hands out each one's own object, both running at once."""
    mounted = FastAPI()
    mounted.add_api_route("/it", identity_of(log.resource()))
    apps = [FastAPI(lifespan=lifespan) for _ in range(2)]
    for app in apps:
        app.mount("/m", mounted)
    with TestClient(apps[0]) as one, TestClient(apps[1]) as other:
        first, second = one.get("/m/it").json(), other.get("/m/it").json()
    assert first != second
    assert log == ["open pool", "open pool", "close pool", "close pool"]


def test_a_mount_inside_an_included_router(log: Log) -> None:
    """What a mount in an included router needs is started if FastAPI serves it: before 0.137 it left them out."""
    mounted = FastAPI()
    mounted.add_api_route("/it", identity_of(log.resource()))
    router = APIRouter()
    router.mount("/m", mounted)
    app = FastAPI(lifespan=lifespan)
    app.include_router(router, prefix="/r")
    with TestClient(app) as client:
        served = client.get("/r/m/it").status_code == HTTPStatus.OK
        assert log == (["open pool"] if served else [])


class Passing:
    """A middleware of the plainest kind."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what comes."""
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    "around",
    [
        lambda app: Mount("/m", app=app),
        lambda app: Mount("/m", app=GZipMiddleware(app)),
        lambda app: Mount("/m", app=Passing(GZipMiddleware(app))),
        lambda app: Mount("/m", app=Passing(BaseHTTPMiddleware(app, dispatch=passed_on))),
        lambda app: Mount("/m", routes=[Mount("", app=app)]),
        lambda app: Mount("/m", app=Router([Mount("", app=app)])),
        lambda app: Host("testserver", app=Passing(Router([Mount("/m", app=app)]))),
    ],
    ids=["mount", "middleware", "middlewares", "http middleware", "nested mount", "router", "host"],
)
def test_ways_to_mount(log: Log, around: Callable[[FastAPI], Any]) -> None:
    """Starlette's own mounts, hosts and routers are walked, with middleware around what they hold."""
    pool = log.resource()
    mounted = FastAPI()
    mounted.add_api_route("/it", identity_of(pool))
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/it", identity_of(pool))
    app.router.routes.append(around(mounted))
    assert len(set(answers(app, "/it", "/m/it"))) == 1
    assert log == ["open pool", "close pool"]


async def passed_on(request: Request, call_next: Callable[[Request], Any]) -> Any:
    """Pass on what comes."""
    return await call_next(request)


def test_an_app_mounted_in_itself(log: Log) -> None:
    """An app that is mounted in itself is walked once."""
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/it", identity_of(log.resource()))
    app.mount("/again", app)
    assert len(set(answers(app, "/it", "/again/it", "/again/again/it"))) == 1


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/it", "/m/it", "/m/n/it"])
def test_the_outer_apps_override_reaches_mounted_apps(log: Log, path: str) -> None:
    """One override at the outer app holds at each depth; the real resource is never opened, the override once."""
    pool = log.resource()
    app, mounted, inner = FastAPI(lifespan=lifespan), FastAPI(), FastAPI()
    for each in (app, mounted, inner):
        each.add_api_route("/it", identity_of(pool))
    app.mount("/m", mounted)
    mounted.mount("/n", inner)
    app.dependency_overrides[pool] = log.resource("fake").factory
    first, second = answers(app, "/it", path)
    assert first == second
    assert log == ["open fake", "close fake"]


def test_the_outer_apps_override_comes_before_a_mounted_apps_own(log: Log) -> None:
    """Where both override one dependency, the outer app's holds for all."""
    pool = log.resource()
    app, mounted = FastAPI(lifespan=lifespan), FastAPI()
    mounted.add_api_route("/it", identity_of(pool))
    app.mount("/m", mounted)
    app.dependency_overrides[pool] = log.resource("outer").factory
    mounted.dependency_overrides[pool] = log.resource("own").factory
    answers(app, "/m/it")
    assert log == ["open outer", "close outer"]


def test_a_mounted_apps_own_override(log: Log) -> None:
    """A mounted app's own override is started in its place, once, and closed."""
    pool = log.resource()
    app, mounted = FastAPI(lifespan=lifespan), FastAPI()
    mounted.add_api_route("/it", identity_of(pool))
    app.mount("/m", mounted)
    mounted.dependency_overrides[pool] = log.resource("own").factory
    first, second = answers(app, "/m/it", "/m/it")
    assert first == second
    assert log == ["open own", "close own"]


def test_overrides_are_as_they_were_when_the_app_has_stopped(log: Log) -> None:
    """A run changes no app's overrides for good."""
    pool = log.resource()
    app, mounted = FastAPI(lifespan=lifespan), FastAPI()
    app.add_api_route("/it", identity_of(pool))
    app.mount("/m", mounted)
    outer: dict[Callable[..., Any], Callable[..., Any]] = {pool: Pool}
    own: dict[Callable[..., Any], Callable[..., Any]] = {nothing: nothing}
    app.dependency_overrides, mounted.dependency_overrides = dict(outer), dict(own)
    answers(app, "/it")
    assert (app.dependency_overrides, mounted.dependency_overrides) == (outer, own)


# --- nothing else -----------------------------------------------------------------------------------------------------


def test_nothing_unused_is_started(log: Log) -> None:
    """What no route needs is not started, nor what only an overridden resource needed."""
    log.resource("unused")
    needed = log.resource("needed")
    pool = log.resource("pool", needed)
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", identity_of(pool))
    app.dependency_overrides[pool] = log.resource("fake").factory
    assert started_with(app, log) == ["open fake"]


def test_also_adds_what_no_route_needs(log: Log) -> None:
    """`also=[…]` starts a resource and what it needs; what a route needs as well is started once."""
    pool = log.resource("pool")
    scheduler = log.resource("scheduler", pool)
    app = FastAPI(lifespan=lifespan(also=[scheduler, pool]))
    app.add_api_route("/", identity_of(pool))
    assert started_with(app, log) == ["open pool", "open scheduler"]


def test_also_takes_resources_only() -> None:
    """A plain function in `also=[…]` has no scope to live in, and is refused."""
    wrong: Any = nothing
    with (
        pytest.raises(DeclarationError, match="which is not a resource"),
        TestClient(FastAPI(lifespan=lifespan(also=[wrong]))),
    ):
        pass


def test_a_route_added_after_the_start(log: Log) -> None:
    """What was not in the plan is refused where it is asked for, with the setting to add."""
    app = FastAPI(lifespan=lifespan)
    with TestClient(app) as client:
        app.add_api_route("/late", identity_of(log.resource("pool")))
        with pytest.raises(NotStarted) as caught:
            client.get("/late")
    assert caught.value.hint == "name it there: `lifespan(also=[pool])`"
    assert log == []


def test_what_the_users_lifespan_takes(log: Log) -> None:
    """The user's own lifespan gets what it takes beside the app, started before it and closed after it."""
    pool = log.resource()

    @asynccontextmanager
    async def mine(_app: FastAPI, it: Pool = Depends(pool)) -> AsyncIterator[dict[str, int]]:
        log.append("enter mine")
        yield {"pool": id(it)}
        log.append("exit mine")

    app = FastAPI(lifespan=lifespan(mine))
    app.add_api_route("/it", identity_of(pool))

    async def state(request: Request) -> int:
        return int(request.state.pool)

    app.add_api_route("/state", state)
    assert len(set(answers(app, "/it", "/state"))) == 1
    assert log == ["open pool", "enter mine", "exit mine", "close pool"]


def test_the_report_names_routes_by_their_full_paths() -> None:
    """A finding in a mounted app or an included router names the path that a client would use."""
    bad = scoped("cluster")(lambda: Pool())  # noqa: PLW0108 (a function, and no class)
    app, mounted = FastAPI(lifespan=lifespan), FastAPI()
    mounted.include_router(router_with(bad), prefix="/r")
    app.mount("/m", mounted)
    app.include_router(router_with(bad, "/it/{number}"), prefix="/v1")
    with pytest.raises(PlanError) as caught, TestClient(app):
        pass
    (found,) = caught.value.findings
    assert found.path[-1] in {"used by GET /m/r/it, GET /v1/it/{number}", "used by GET /v1/it/{number}, GET /m/r/it"}


# --- the cost of planning ---------------------------------------------------------------------------------------------


class Counted:
    """A factory that counts how often its signature is read."""

    def __init__(self, *needs: Resource[Any]) -> None:
        self.reads = 0
        self._signature = signature_of(*needs)

    @property
    def __signature__(self) -> Signature:
        self.reads += 1
        return self._signature

    async def __call__(self, **_needed: Any) -> Pool:
        """Make a value."""
        return Pool()


def reads(routes: int) -> list[int]:
    """Start an app of so many routes on 20 resources, each of which needs those before it; count the reads of each."""
    factories: list[Counted] = []
    resources: list[Resource[Pool]] = []
    for number in range(20):
        factories.append(Counted(*resources))
        resources.append(scoped("app", name=f"n{number}")(factories[-1]))
    app = FastAPI(lifespan=lifespan)
    for number in range(routes):
        app.add_api_route(f"/{number}", nothing, dependencies=[Depends(resources[number % 20])])

    async def start() -> None:
        async with running(app):
            pass

    asyncio.run(start())
    return [factory.reads for factory in factories]


def test_each_dependency_is_read_once_however_many_routes_need_it() -> None:
    """Planning reads a dependency as often for 1,000 routes as for 20, so that it grows with the routes alone."""
    assert reads(1000) == reads(20)
    assert max(reads(20)) == min(reads(20))
