"""Binding: what has started is a constant, so FastAPI need not solve it again; and what that must never change."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import fields, make_dataclass
from functools import wraps
from typing import Annotated, Any

import anyio
import fastapi.routing
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Security, WebSocket
from fastapi.dependencies import utils
from fastapi.testclient import TestClient

from tenure import cancel_on_disconnect, lifespan, override, running, scoped
from tenure.calls import name_of
from tenure.errors import DeclarationError, NotStarted
from tenure.fastapi import binding

log: list[str] = []


class Pool:
    """Something that is opened once."""

    def __init__(self, name: str = "real") -> None:
        self.name = name


@scoped("app")
async def pool() -> AsyncIterator[Pool]:
    """Open it."""
    yield Pool()


@scoped("app")
async def other() -> str:
    """Make something else."""
    return "other"


@scoped("function")
async def connection(pool: Annotated[Pool, Depends(pool)]) -> AsyncIterator[list[str]]:
    """Borrow from the pool."""
    log.append(f"+{pool.name}")
    try:
        yield [pool.name]
    finally:
        log.append(f"-{pool.name}")


@scoped("request")
async def session(connected: Annotated[Pool, Depends(pool)], name: Annotated[str, Depends(other)]) -> str:
    """Hold something for the request."""
    return f"{name} on {connected.name}"


ThePool = Annotated[Pool, Depends(pool)]
Connection = Annotated[list[str], Depends(connection)]


async def caller(connection: Connection, pool: ThePool, host: Annotated[str, Header()]) -> tuple[int, str]:
    """Tell who calls, over the request's connection."""
    return id(connection), f"{host} by {pool.name}"


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hold the names of all that FastAPI's own solver has been asked to solve."""
    names: list[str] = []
    own = utils.solve_dependencies

    @wraps(own)
    def noted(**arguments: Any) -> Any:
        names.append(name_of(arguments["dependant"].call))
        return own(**arguments)

    for module in (utils, fastapi.routing):
        monkeypatch.setattr(module, "solve_dependencies", noted)
    return names


@pytest.fixture
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have apps start with binding switched off."""
    monkeypatch.setenv("TENURE_BINDING", "off")


async def show(pool: ThePool, name: Annotated[str, Depends(other)], session: Annotated[str, Depends(session)]) -> str:
    """Answer with all that is injected."""
    return f"{pool.name}, {name}, {session}"


SHOWN = "real, other, other on real"


def show_in_thread(pool: ThePool) -> str:
    """Answer from a worker thread."""
    return pool.name


def app_with(endpoint: Callable[..., Any], **options: Any) -> FastAPI:
    """Make an app with one route."""
    app = FastAPI(lifespan=lifespan, **options)
    app.add_api_route("/", endpoint)
    return app


def test_started_values_need_no_solving(solved: list[str]) -> None:
    """What has started, and what is made of it alone, is handed out without FastAPI's solver."""
    with TestClient(app_with(show)) as client:
        assert client.get("/").json() == SHOWN
    assert solved == []


def test_a_sync_handler_is_handed_started_values(solved: list[str]) -> None:
    """A `def` handler stays in its thread, and what it is handed needs no solving either."""
    with TestClient(app_with(show_in_thread)) as client:
        assert client.get("/").json() == "real"
    assert solved == []


@pytest.mark.usefixtures("unbound")
def test_binding_can_be_switched_off(solved: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """With `TENURE_BINDING=off` FastAPI solves all of it, the answer is the same, and the log says why."""
    with caplog.at_level(logging.INFO, "tenure"), TestClient(app_with(show)) as client:
        assert client.get("/").json() == SHOWN
    assert solved == ["show", "pool", "other", "session", "pool", "other"]
    assert "binding is off: TENURE_BINDING=off" in caplog.messages


def test_a_misspelt_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TENURE_BINDING=no` does not pass for on or off."""
    monkeypatch.setenv("TENURE_BINDING", "no")
    client = TestClient(app_with(show))
    with pytest.raises(DeclarationError, match="TENURE_BINDING='no' is neither on nor off"), client:
        pytest.fail("it started")


def test_what_takes_request_data_is_solved_without_the_rest(solved: list[str]) -> None:
    """A dependency that takes a header is FastAPI's, its started inputs are not, and it shares the one connection."""

    async def index(connection: Connection, caller: Annotated[tuple[int, str], Depends(caller)]) -> list[object]:
        return [caller[0] == id(connection), caller[1]]

    with TestClient(app_with(index)) as client:
        assert client.get("/", headers={"host": "ada"}).json() == [True, "ada by real"]
    assert solved[:3] == ["index", "caller", "connection"]  # older versions go on into what these are made of
    assert log == ["+real", "-real"]


@pytest.mark.parametrize("bound", [True, False])
def test_validation_stays_where_it_was(bound: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """A connection that cannot be had is told before a number that is none, as FastAPI's order has it, bound or not."""
    monkeypatch.setenv("TENURE_BINDING", "on" if bound else "off")

    @scoped("function")
    async def exhausted(pool: ThePool) -> AsyncIterator[Pool]:
        log.append("+exhausted")
        if pool.name == "real":
            raise HTTPException(503)
        yield pool

    async def index(exhausted: Annotated[Pool, Depends(exhausted)], number: int) -> int:
        return number

    async def borrowing(connection: Connection, number: int) -> int:
        return number

    app = app_with(index)
    app.add_api_route("/borrowing", borrowing)
    with TestClient(app) as client:
        assert client.get("/", params={"number": "none"}).status_code == 503
        assert client.get("/borrowing", params={"number": "none"}).status_code == 422
    assert log == ["+exhausted", "+real", "-real"]


def in_a_router(app: FastAPI) -> str:
    """Put the handler behind a router that is included in another."""
    inner, outer = APIRouter(prefix="/inner"), APIRouter(dependencies=[Depends(pool)])
    inner.add_api_route("/here", show)
    outer.include_router(inner)
    app.include_router(outer, prefix="/outer", dependencies=[Depends(session)])
    return "/outer/inner/here"


def in_a_mounted_app(app: FastAPI) -> str:
    """Put the handler in an app that is mounted."""
    below = FastAPI()
    below.add_api_route("/here", show)
    app.mount("/below", below)
    return "/below/here"


def in_a_late_route(app: FastAPI) -> str:
    """Declare that the values are needed, and add the handler when the app runs already."""
    app.add_api_route("/", show)

    @app.get("/add")
    async def add() -> None:
        app.add_api_route("/late", show)

    return "/late"


@pytest.mark.parametrize("place", [in_a_router, in_a_mounted_app, in_a_late_route])
def test_routes_are_bound_wherever_they_stand(place: Callable[[FastAPI], str], solved: list[str]) -> None:
    """Behind routers, in mounted apps, or added after the start: a route is bound."""
    app = FastAPI(lifespan=lifespan)
    path = place(app)
    with TestClient(app) as client:
        client.get("/add")
        solved.clear()
        assert client.get(path).json() == SHOWN
    assert solved == []


def test_websockets_are_bound(solved: list[str]) -> None:
    """A websocket is handed started values without FastAPI's solver."""
    app = FastAPI(lifespan=lifespan)

    @app.websocket("/")
    async def talk(websocket: WebSocket, pool: ThePool, connection: Connection) -> None:
        await websocket.accept()
        await websocket.send_json([pool.name, *connection])
        await websocket.close()

    with TestClient(app) as client, client.websocket_connect("/") as connected:
        assert connected.receive_json() == ["real", "real"]
    assert solved == []
    assert log == ["+real", "-real"]


def test_a_late_route_that_wants_what_was_not_started_says_so() -> None:
    """A route added after the start gets no value that the start did not know of."""
    app = app_with(show_in_thread)
    with TestClient(app) as client:
        app.add_api_route("/late", show)
        with pytest.raises(NotStarted, match="`other` was not in the plan when the app started"):
            client.get("/late")


def test_an_unrelated_override_costs_nothing(solved: list[str]) -> None:
    """An override of something else leaves a route bound, where FastAPI reads every signature anew."""
    app = app_with(show)
    app.dependency_overrides[print] = repr
    with TestClient(app) as client:
        assert client.get("/").json() == SHOWN
    assert solved == []


def test_an_override_acts_at_once_and_is_forgotten_at_once(solved: list[str]) -> None:
    """An override set while the app runs acts on the next request; taken away, the route is as bound as before."""
    app = app_with(show)
    with TestClient(app) as client:
        assert client.get("/").json() == SHOWN
        with override(app, {other: lambda: "double"}):
            assert client.get("/").json() == "real, double, double on real"
            with override(app, {other: lambda: "second double"}):
                assert client.get("/").json() == "real, second double, second double on real"
            app.dependency_overrides = {session: lambda: "no session"}
            assert client.get("/").json() == "real, other, no session"
            app.dependency_overrides = {}
        solved.clear()
        assert client.get("/").json() == SHOWN
    assert solved == []


def test_what_is_started_in_place_of_another_is_bound(solved: list[str]) -> None:
    """An override that the start has started, and one that names a started resource, are as bound as the real one."""

    async def stub() -> str:
        raise NotImplementedError

    async def index(pool: ThePool, name: Annotated[str, Depends(stub)]) -> str:
        return f"{pool.name}, {name}"

    async def double() -> AsyncIterator[Pool]:
        yield Pool("double")

    app = app_with(index)
    app.dependency_overrides[stub] = other
    with override(app, {pool: double}), TestClient(app) as client:
        assert client.get("/").json() == "double, other"
    assert solved == []


def test_an_override_of_the_outer_app_unbinds_a_mounted_one() -> None:
    """What is overridden on the outer app while it runs is overridden in mounted apps too."""
    app, below = FastAPI(lifespan=lifespan), FastAPI()
    below.add_api_route("/", show_in_thread)
    app.mount("/below", below)
    with TestClient(app) as client:
        assert client.get("/below/").json() == "real"
        with override(app, {pool: lambda: Pool("double")}):
            assert client.get("/below/").json() == "double"
        assert client.get("/below/").json() == "real"


async def test_an_override_leaves_requests_under_way_as_they_began() -> None:
    """A request that waits in a dependency while an override is set ends on what it began with."""
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def wait(host: Annotated[str, Header()]) -> str:
        waiting.set()
        await go_on.wait()
        return host

    async def index(pool: ThePool, host: Annotated[str, Depends(wait)]) -> str:
        return pool.name

    app = app_with(index)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with running(app), client, asyncio.TaskGroup() as group:
        first = group.create_task(client.get("/"))
        await waiting.wait()
        app.dependency_overrides[pool] = lambda: Pool("double")
        go_on.set()
        second = group.create_task(client.get("/"))
    assert (first.result().json(), second.result().json()) == ("real", "double")


def test_one_mounted_app_serves_two_with_their_own_values(solved: list[str]) -> None:
    """A sub-app that two apps mount is bound for each of them, to the values of each."""
    below = FastAPI()

    async def identity(pool: ThePool) -> int:
        return id(pool)

    below.add_api_route("/identity", identity)
    one, two = FastAPI(lifespan=lifespan), FastAPI(lifespan=lifespan)
    one.mount("/below", below)
    two.mount("/below", below)
    with TestClient(one) as first, TestClient(two) as second:
        answers = [client.get("/below/identity").json() for client in (first, second, first, second)]
    assert answers[0] == answers[2] != answers[1] == answers[3]
    assert solved == []


def test_scopes_of_security_are_left_to_fastapi(solved: list[str]) -> None:
    """A resource asked for with security scopes is solved by FastAPI, which tells values apart by them."""

    async def index(session: Annotated[str, Security(session, scopes=["read"])]) -> str:
        return session

    with TestClient(app_with(index)) as client:
        assert client.get("/").json() == "other on real"
    assert solved[:2] == ["index", "session"]


def shape(dependant: Any) -> dict[str, Any]:
    """Give all that FastAPI knows of a route's dependencies."""
    known = {field.name: getattr(dependant, field.name) for field in fields(dependant)}
    return {**known, "dependencies": [shape(taken) for taken in dependant.dependencies]}


def test_routes_and_solver_are_left_as_they_were_found() -> None:
    """Start and stop change neither a route nor the name under which routes find FastAPI's solver."""
    app = app_with(show)
    dependant: Any = app.routes[-1].dependant  # type: ignore[attr-defined]
    before, solver = shape(dependant), fastapi.routing.solve_dependencies  # type: ignore[attr-defined]
    schema = FastAPI.openapi(app_with(show))
    with TestClient(app) as client, TestClient(app) as again:
        assert client.get("/").json() == again.get("/").json() == SHOWN
        assert client.get("/openapi.json").json() == schema
        assert shape(dependant) == before
    assert shape(dependant) == before
    assert fastapi.routing.solve_dependencies is solver  # type: ignore[attr-defined]


async def test_an_app_starts_and_stops_a_thousand_times() -> None:
    """Nothing is left of an app that was started and stopped, but the app."""
    app = app_with(show)

    async def run() -> None:
        async with running(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
            assert (await client.get("/")).json() == SHOWN

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, binding.Binding) for each in gc.get_objects())

    await run()
    before = alive()
    for _ in range(1000):
        async with running(app):
            pass
    await run()
    assert alive() == before


def test_a_library_that_replaced_the_solver_first_keeps_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where another library stands in the solver's place before the start, binding stays off and says so."""
    own, seen = fastapi.routing.solve_dependencies, []  # type: ignore[attr-defined]

    def instrumented(**arguments: Any) -> Any:
        seen.append(len(arguments["dependant"].dependencies))
        return own(**arguments)

    monkeypatch.setattr(fastapi.routing, "solve_dependencies", instrumented)
    with TestClient(app_with(show)) as client:
        assert client.get("/").json() == SHOWN
    assert seen == [3]
    assert "another library has replaced `fastapi.routing.solve_dependencies`" in caplog.text
    assert fastapi.routing.solve_dependencies is instrumented  # type: ignore[attr-defined]


def test_a_library_that_replaces_the_solver_during_the_start_keeps_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A resource may instrument FastAPI as it starts: binding stays off then, and says so."""
    own, seen = fastapi.routing.solve_dependencies, []  # type: ignore[attr-defined]

    def instrumented(**arguments: Any) -> Any:
        seen.append(len(arguments["dependant"].dependencies))
        return own(**arguments)

    @scoped("app")
    async def tracing() -> None:
        monkeypatch.setattr(fastapi.routing, "solve_dependencies", instrumented)

    async def index(pool: ThePool, tracing: Annotated[None, Depends(tracing)]) -> str:
        return pool.name

    with TestClient(app_with(index)) as client:
        assert client.get("/").json() == "real"
    assert seen == [2]
    assert "another library has replaced `fastapi.routing.solve_dependencies`" in caplog.text
    assert fastapi.routing.solve_dependencies is instrumented  # type: ignore[attr-defined]


def test_a_library_that_builds_on_the_solver_later_keeps_what_it_has_built(
    monkeypatch: pytest.MonkeyPatch, solved: list[str]
) -> None:
    """A library that wraps the solver while an app runs sees each call, and goes on working after the app stopped."""
    app, plain = app_with(show), FastAPI()
    plain.add_api_route("/", lambda: "plain", response_model=str)
    seen: list[str] = []
    with TestClient(app) as client:
        hooked = fastapi.routing.solve_dependencies  # type: ignore[attr-defined]

        def instrumented(**arguments: Any) -> Any:
            seen.append(arguments["dependant"].call.__name__)
            return hooked(**arguments)

        monkeypatch.setattr(fastapi.routing, "solve_dependencies", instrumented)
        assert client.get("/").json() == SHOWN
    assert TestClient(plain).get("/").json() == "plain"
    with TestClient(app) as client:
        assert client.get("/").json() == SHOWN
    assert seen == ["show", "<lambda>", "show"]
    assert solved == ["<lambda>"]
    fastapi.routing.solve_dependencies = hooked  # type: ignore[attr-defined] # it is taken off again
    with TestClient(app) as client:
        assert client.get("/").json() == SHOWN


@pytest.mark.parametrize(
    ("name", "replacement", "why"),
    [
        ("SolvedDependency", make_dataclass("SolvedDependency", ["values", "oddity"]), "`SolvedDependency`"),
        ("_solve_generator", print, "`_solve_generator`"),
    ],
)
def test_a_fastapi_that_is_not_known_is_left_alone(
    name: str,
    replacement: Any,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where FastAPI's solver is not as known, nothing is bound, the log says what is new, and values are handed out."""
    monkeypatch.setattr(utils, name, replacement)
    app = app_with(show_in_thread)
    solver = fastapi.routing.solve_dependencies  # type: ignore[attr-defined]
    with TestClient(app):
        assert fastapi.routing.solve_dependencies is solver  # type: ignore[attr-defined]
    assert f"of {why} are not as known" in caplog.text


def test_an_app_that_goes_on_adding_routes_does_not_grow(monkeypatch: pytest.MonkeyPatch, solved: list[str]) -> None:
    """Bound routes are dropped when there are very many, and bound anew when they are asked for."""
    monkeypatch.setattr(binding, "KEPT_ROUTES", 2)
    app = FastAPI(lifespan=lifespan)
    for number in range(5):
        app.add_api_route(f"/{number}", show_in_thread)
    with TestClient(app) as client:
        assert [client.get(f"/{number}").json() for number in (0, 1, 2, 3, 4, 0, 0)] == ["real"] * 7
    assert solved == []


@scoped("function")
async def working(pool: ThePool) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Hold a task group, and so a cancel scope, open for the handler."""
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def plain() -> AsyncIterator[str]:
    """Hold something of FastAPI's own open."""
    yield "plain"


async def alone(group: Annotated[anyio.abc.TaskGroup, Depends(working)], connection: Connection) -> bool:
    """Take resources alone."""
    return not group.cancel_scope.cancel_called


async def before(
    plain: Annotated[str, Depends(plain)], group: Annotated[anyio.abc.TaskGroup, Depends(working)]
) -> bool:
    """Take what FastAPI opens first."""
    return not group.cancel_scope.cancel_called


async def after(group: Annotated[anyio.abc.TaskGroup, Depends(working)], plain: Annotated[str, Depends(plain)]) -> bool:
    """Take what FastAPI opens last."""
    return not group.cancel_scope.cancel_called


async def within(
    group: Annotated[anyio.abc.TaskGroup, Depends(working)], caller: Annotated[tuple[int, str], Depends(caller)]
) -> bool:
    """Take what opens a resource on the way."""
    return not group.cancel_scope.cancel_called


async def then_leaving(
    group: Annotated[anyio.abc.TaskGroup, Depends(working)], _leaving: Annotated[None, Depends(cancel_on_disconnect)]
) -> bool:
    """Be cancelled when the client leaves, which is asked for last."""
    return not group.cancel_scope.cancel_called


async def leaving_first(
    _leaving: Annotated[None, Depends(cancel_on_disconnect)], group: Annotated[anyio.abc.TaskGroup, Depends(working)]
) -> bool:
    """Be cancelled when the client leaves, which is asked for first."""
    return not group.cancel_scope.cancel_called


@pytest.mark.parametrize("endpoint", [alone, before, after, within, then_leaving, leaving_first])
@pytest.mark.parametrize("in_scope", [True, False])
@pytest.mark.parametrize("bound", [True, False])
async def test_cancel_scopes_that_are_held_open_nest(
    endpoint: Callable[..., Any],
    in_scope: bool,  # noqa: FBT001
    bound: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resource may hold a task group open, whatever is open or around, in a bound route as in an unbound one."""
    monkeypatch.setenv("TENURE_BINDING", "on" if bound else "off")
    app = app_with(endpoint)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with running(app), client:
        if in_scope:
            with anyio.CancelScope():
                assert (await client.get("/")).json() is True
        else:
            assert (await asyncio.create_task(client.get("/"))).json() is True


@pytest.mark.parametrize("around", [True, False])
async def test_a_close_is_finished_although_the_request_is_cancelled(around: bool) -> None:  # noqa: FBT001
    """What a request borrowed is given back in full when a cancel scope around it, or its task, is cancelled."""
    handling = asyncio.Event()

    @scoped("function")
    async def borrowed(pool: ThePool) -> AsyncIterator[str]:
        log.append("borrowed")
        try:
            yield pool.name
        finally:
            await asyncio.sleep(0)
            log.append("given back")

    async def index(borrowed: Annotated[str, Depends(borrowed)]) -> None:
        handling.set()
        await asyncio.Event().wait()

    app = app_with(index)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with running(app), client:
        if around:
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, "/")
                await handling.wait()
                group.cancel_scope.cancel()
        else:
            request = asyncio.create_task(client.get("/"))
            await handling.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
    assert log == ["borrowed", "given back"]


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from running by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
async def test_a_request_leaves_no_cycles_behind() -> None:
    """All that a request makes is freed as it ends, without the garbage collector."""

    async def index(pool: ThePool, connection: Connection, session: Annotated[str, Depends(session)]) -> str:
        return session

    app = app_with(index)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async with running(app):
        for requests in (1, 100):
            gc.collect()
            for _ in range(requests):
                scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "state": {}}
                await app(scope, receive, send)
                del scope
        assert gc.collect() == 0
    assert len(sent) == 202
