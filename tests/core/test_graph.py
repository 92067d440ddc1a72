"""What a plan refuses, and what it says: every finding, in one report, before anything has started."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    Path,
    Query,
    Request,
    Response,
    WebSocket,
)
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.testclient import TestClient

from tenure import Counter, Resource, lifespan, scoped
from tenure.errors import DependencyCycle, Finding, PlanError

if TYPE_CHECKING:
    from pathlib import Path as FilePath


def nothing() -> None:
    """Handle a request."""


def refused(app: FastAPI) -> PlanError:
    """Start an app that must be refused, and give the report."""
    with pytest.raises(PlanError) as caught, TestClient(app):
        pytest.fail("it was started")
    return caught.value


def findings_of(*calls: Callable[..., Any]) -> tuple[Finding, ...]:
    """Start an app with one route that takes these dependencies, and give what is found; nothing when it starts."""
    app = FastAPI(lifespan=lifespan, dependencies=[Depends(call) for call in calls])
    app.add_api_route("/", nothing)
    try:
        with TestClient(app) as client:
            assert client.get("/").status_code == HTTPStatus.OK
    except PlanError as report:
        return report.findings
    return ()


def chains(*findings: Finding) -> list[tuple[str, list[str]]]:
    """Give each finding's code and the names on its path, without scopes, places and users."""
    return [
        (finding.code, [line.lstrip(" └").split("  ")[0] for line in finding.path if line[:4] != "used"])
        for finding in findings
    ]


# --- captive-dependency -----------------------------------------------------------------------------------------------


@scoped("request")
async def tenant() -> AsyncIterator[str]:
    """Live as long as a request."""
    yield "acme"


@scoped("function")
async def connection() -> AsyncIterator[str]:
    """Live as long as the call of a handler."""
    yield "connection"


async def tenant_name(tenant: Annotated[str, Depends(tenant)]) -> str:
    """Pass on what it takes."""
    return tenant


def greeting(name: Annotated[str, Depends(tenant_name)]) -> str:
    """Pass on what it takes, at one remove."""
    return f"hello {name}"


async def query(connection: Annotated[str, Depends(connection)]) -> str:
    """Pass on a function-scoped value."""
    return connection


async def transaction(connection: Annotated[str, Depends(connection)]) -> AsyncIterator[str]:
    """Live as long as a request, unless it is taken with `scope="function"`."""
    yield connection


def holding(scope: Any, taken: Callable[..., Any], how: Any = None) -> Resource[str]:
    """Make a resource that takes one dependency."""

    async def holder(it: str = Depends(taken, scope=how)) -> AsyncIterator[str]:
        yield it

    return scoped(scope)(holder)


@pytest.mark.parametrize(
    ("scope", "taken", "path"),
    [
        ("app", tenant, ["holder", "tenant"]),
        ("app", connection, ["holder", "connection"]),
        ("app", tenant_name, ["holder", "tenant_name", "tenant"]),
        ("app", greeting, ["holder", "greeting", "tenant_name", "tenant"]),
        ("app", transaction, ["holder", "transaction", "connection"]),
        ("request", connection, ["holder", "connection"]),
        ("request", query, ["holder", "query", "connection"]),
    ],
)
def test_what_lives_shorter_is_refused(scope: str, taken: Callable[..., Any], path: list[str]) -> None:
    """A resource that holds what lives shorter is refused, also through plain functions, and the way is drawn."""
    found = findings_of(holding(scope, taken))
    assert ("captive-dependency", path) in chains(*found)
    assert {finding.code for finding in found} == {"captive-dependency"}


@pytest.mark.parametrize(
    ("scope", "taken"),
    [
        ("function", tenant),
        ("function", connection),
        ("function", query),
        ("request", tenant),
        ("request", greeting),
        ("request", scoped("app")(lambda: "settings")),
        ("app", scoped("app")(lambda: "settings")),
    ],
)
def test_what_lives_as_long_or_longer_is_held(scope: str, taken: Callable[..., Any]) -> None:
    """A resource may hold what lives as long as itself, or longer."""
    assert findings_of(holding(scope, taken)) == ()


def test_a_plain_generator_that_outlives_what_it_holds_is_refused() -> None:
    """FastAPI closes a plain generator after the answer: it cannot hold what ends before; the hint has the cure."""
    (found,) = findings_of(transaction)
    assert chains(found) == [("captive-dependency", ["transaction", "connection"])]
    assert found.message == "request-scoped `transaction` needs function-scoped `connection`"
    assert found.hint == 'declare it `Depends(transaction, scope="function")`, or give `connection` the scope "request"'


@pytest.mark.parametrize("around", [Depends, lambda call, scope: Depends(holding("function", call, scope))])
def test_a_plain_generator_taken_for_the_function_may_hold_it(around: Callable[..., Any]) -> None:
    """With `Depends(…, scope="function")` the generator ends with the handler, and holds what does so too."""
    taken = around(transaction, scope="function")
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", lambda it=taken: it)
    with TestClient(app) as client:
        assert client.get("/").json() == "connection"


def test_a_request_scoped_resource_cannot_hold_a_generator_taken_for_the_function() -> None:
    """`Depends(…, scope="function")` in a request-scoped resource would end what it still holds, and is refused."""

    async def cursor() -> AsyncIterator[str]:
        yield "cursor"

    assert chains(*findings_of(holding("request", cursor, "function"))) == [
        ("captive-dependency", ["holder", "cursor"])
    ]


def test_a_plain_generator_below_an_app_scoped_resource_lives_with_the_app() -> None:
    """What an app-scoped resource takes starts and ends with it, though a route would have it anew each time."""
    log: list[str] = []

    def setting() -> Iterator[str]:
        log.append("open")
        yield "dsn"
        log.append("close")

    pool = holding("app", setting)
    app = FastAPI(lifespan=lifespan, dependencies=[Depends(pool)])
    app.add_api_route("/", lambda: list(log))
    with TestClient(app) as client:
        assert [client.get("/").json(), client.get("/").json()] == [["open"], ["open"]]
    assert log == ["open", "close"]


# --- dependency-cycle -------------------------------------------------------------------------------------------------


@scoped("app")
async def hen(egg: Annotated[str, Depends(egg)]) -> str:  # pyright: ignore[reportUndefinedVariable]
    """Need what needs it."""
    return str(egg)


async def nest(hen: Annotated[str, Depends(hen)]) -> str:
    """Stand between the two."""
    return hen


@scoped("app")
async def egg(nest: Annotated[str, Depends(nest)]) -> str:
    """Need what needs it."""
    return nest


def test_a_cycle_of_app_scoped_resources_is_refused() -> None:
    """Annotations may name what is defined below them, so resources can need each other; the whole circle is drawn."""
    (found,) = findings_of(egg)
    assert chains(found) == [("dependency-cycle", ["egg", "nest", "hen", "egg"])]
    assert found.message == "`egg` needs itself"


@pytest.mark.parametrize("scope", ["app", "request", "function"])
def test_an_override_that_needs_what_it_replaces_is_refused(scope: Any) -> None:
    """FastAPI would call such an override from itself without end; the plan says so before the first request."""
    real = scoped(scope, name="real")(lambda: "real")

    def fake(real: str = Depends(real)) -> str:
        return f"fake {real}"

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(real)])
    app.add_api_route("/", nothing)
    app.dependency_overrides[real] = fake
    name = "real" if scope == "app" else "fake"
    assert chains(*refused(app).findings) == [("dependency-cycle", [name, name])]


async def desk(
    lamp: Annotated[str, Depends(lamp)],  # pyright: ignore[reportUndefinedVariable]
) -> AsyncIterator[str]:
    """Need what needs it."""
    yield str(lamp)


desk_of_request = scoped("request", name="desk")(desk)


async def room(desk: Annotated[str, Depends(desk_of_request)]) -> str:
    """Stand between the two."""
    return desk


@scoped("function")
async def lamp(room: Annotated[str, Depends(room)]) -> str:
    """Need what needs it."""
    return room


@pytest.mark.parametrize("taken", [desk_of_request, lamp, holding("function", room)])
def test_a_cycle_of_request_time_resources_is_refused_when_a_route_takes_it(taken: Resource[str]) -> None:
    """FastAPI would follow such a circle without end as the route is declared; instead that fails, with the circle."""
    with pytest.raises(DependencyCycle) as caught:
        FastAPI().add_api_route("/", nothing, dependencies=[Depends(taken)])
    names = [name for _, path in chains(caught.value) for name in path]
    assert (len(names), names[0], set(names)) == (4, names[-1], {"desk", "room", "lamp"})


def test_an_override_that_closes_a_circle_is_refused() -> None:
    """An override may need what needs the overridden; that is found as well."""
    pool = holding("app", lambda: "dsn")
    service = scoped("app", name="service")(lambda pool=Depends(pool): pool)
    app = FastAPI(lifespan=lifespan, dependencies=[Depends(service)])
    app.add_api_route("/", nothing)
    app.dependency_overrides[pool] = lambda service=Depends(service): service
    assert chains(*refused(app).findings) == [("dependency-cycle", ["service", "holder", "service"])]


# --- duplicate-name ---------------------------------------------------------------------------------------------------


def named(name: str, module: str) -> Callable[[], str]:
    """Make a factory as if it were written in a module."""

    def factory() -> str:
        return module

    factory.__name__, factory.__module__ = name, module
    return factory


def test_one_name_given_to_two_resources_is_refused() -> None:
    """A name that was given is unique within an app, wherever the factories are."""
    one, other = (scoped("app", name="main")(named("pool", module)) for module in ("sales", "stock"))
    (found,) = findings_of(one, other)
    assert chains(found) == [("duplicate-name", ["main", "main"])]
    assert found.message == "2 resources are named `main`"


def test_one_name_used_twice_in_a_module_is_refused() -> None:
    """Two resources of one module that take their names from their functions must differ."""
    one, other = (scoped("app")(named("pool", "sales")) for _ in range(2))
    assert chains(*findings_of(one, other)) == [("duplicate-name", ["pool", "pool"])]


def test_two_modules_may_each_have_a_pool() -> None:
    """Names that come from functions of different modules do not clash."""
    assert findings_of(*(scoped("app")(named("pool", module)) for module in ("sales", "stock"))) == ()


def test_the_pools_of_two_modules_may_both_be_overridden() -> None:
    """What stands in for two resources that did not clash does not clash either."""
    one, other = (scoped("app")(named("pool", module)) for module in ("sales", "stock"))
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", lambda one=Depends(one), other=Depends(other): [one, other])
    app.dependency_overrides = {one: lambda: "fake sales", other: lambda: "fake stock"}
    with TestClient(app) as client:
        assert client.get("/").json() == ["fake sales", "fake stock"]


def test_a_resource_may_be_overridden_and_override_another() -> None:
    """What replaces one resource and is itself replaced elsewhere is there twice under its name, which is no clash."""
    one, other = (scoped("app")(named("pool", module)) for module in ("sales", "stock"))
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", lambda one=Depends(one), other=Depends(other): [one, other])
    app.dependency_overrides = {one: other, other: lambda: "fake stock"}
    with TestClient(app) as client:
        assert client.get("/").json() == ["stock", "fake stock"]


# --- request-data -----------------------------------------------------------------------------------------------------


async def takes_header(token: Annotated[str, Header()]) -> str:
    """Read a header."""
    return token


async def takes_header_with_default(token: Annotated[str, Header()] = "") -> str:
    """Read a header that may be absent."""
    return token


async def takes_query(page: Annotated[int, Query()]) -> int:
    """Read the query, and say so."""
    return page


async def takes_cookie(token: Annotated[str, Cookie()]) -> str:
    """Read a cookie."""
    return token


async def takes_path(item: Annotated[str, Path()]) -> str:
    """Read the path."""
    return item


async def takes_body(item: Annotated[dict[str, str], Body()]) -> str:
    """Read the body."""
    return str(item)


async def takes_form(item: Annotated[str, Form()]) -> str:
    """Read a form."""
    return item


async def takes_plain(page: int) -> int:
    """Read the query, as FastAPI understands a plain parameter."""
    return page


async def takes_request(request: Request) -> str:
    """Read the request."""
    return request.method


async def takes_connection(connection: HTTPConnection) -> str:
    """Read the request or the websocket."""
    return connection.url.path


async def takes_websocket(websocket: WebSocket) -> str:
    """Read the websocket."""
    return websocket.url.path


async def takes_response(response: Response) -> str:
    """Change the response."""
    return str(response)


async def takes_tasks(tasks: BackgroundTasks) -> str:
    """Add a background task."""
    return str(tasks)


async def takes_scopes(scopes: SecurityScopes) -> str:
    """Read the security scopes."""
    return scopes.scope_str


REQUEST_DATA = [
    (takes_header, "`Header`"),
    (takes_header_with_default, "`Header`"),
    (takes_query, "`Query`"),
    (takes_cookie, "`Cookie`"),
    (takes_path, "`Path`"),
    (takes_body, "`Body`"),
    (takes_form, "`Form`"),
    (takes_plain, "the query or the body"),
    (takes_request, "Request"),
    (takes_connection, "HTTPConnection"),
    (takes_websocket, "WebSocket"),
    (takes_response, "Response"),
    (takes_tasks, "BackgroundTasks"),
    (takes_scopes, "SecurityScopes"),
]


@pytest.mark.parametrize(("factory", "source"), REQUEST_DATA)
def test_an_app_scoped_resource_cannot_ask_for_request_data(factory: Callable[..., Any], source: str) -> None:
    """Nothing is requested when it starts; the path ends at what it asks for."""
    assert chains(*findings_of(scoped("app")(factory))) == [("request-data", [factory.__name__, source])]


@pytest.mark.parametrize(("function", "source"), REQUEST_DATA)
def test_nor_can_a_plain_function_below_it(function: Callable[..., Any], source: str) -> None:
    """What a plain function takes from the request is asked for by the resource that needs it."""
    app = FastAPI(lifespan=lifespan(also=[holding("app", function)]))
    assert chains(*refused(app).findings) == [("request-data", ["holder", function.__name__, source])]


def test_a_default_value_serves_an_app_scoped_resource() -> None:
    """A plain parameter with a default needs no request."""

    async def pool(size: int = 5, *, dsn: str = "postgresql://", **_more: object) -> str:
        return f"{dsn} {size}"

    declared = scoped("app")(pool)
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", lambda it=Depends(declared): it)
    with TestClient(app) as client:
        assert client.get("/?size=7").json() == "postgresql:// 5"


# --- missing-engine, wrong-connection ---------------------------------------------------------------------------------


def polled() -> Iterator[int]:
    """Have an end, which no machine of many would see to."""
    yield 1


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (scoped("cluster", name="once")(lambda: 1), "`once` has the scope `cluster`, which has no engine here"),
        (scoped("cluster")(polled), "`polled` has the scope `cluster`, which has no engine here"),
        (Counter("requests", scope="cluster"), "`requests` has the scope `cluster`, which has no engine here"),
    ],
)
def test_a_scope_that_nothing_serves_is_refused(resource: Resource[Any], message: str) -> None:
    """It never falls back to a narrower scope in silence."""
    (found,) = findings_of(resource)
    assert (found.code, found.message) == ("missing-engine", message)


def test_a_websocket_has_no_request() -> None:
    """A resource that takes `Request` is refused on a websocket route, where FastAPI would fail at each connection."""
    app = FastAPI(lifespan=lifespan)
    app.add_api_websocket_route("/ws", nothing, dependencies=[Depends(scoped("request")(takes_request))])
    (found,) = refused(app).findings
    assert chains(found) == [("wrong-connection", ["takes_request", "Request"])]
    assert found.path[-1] == "used by WEBSOCKET /ws"


def test_a_request_has_no_websocket() -> None:
    """A resource that takes `WebSocket` is refused on an HTTP route, also when another resource is between."""
    found = findings_of(holding("request", scoped("request")(takes_websocket)))
    assert chains(*found) == [("wrong-connection", ["takes_websocket", "WebSocket"])]


def test_what_takes_any_connection_serves_both() -> None:
    """`HTTPConnection` is what both kinds of route can give."""
    place = scoped("request")(takes_connection)
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/http", lambda it=Depends(place): it)

    async def socket(websocket: WebSocket, it: str = Depends(place)) -> None:
        await websocket.accept()
        await websocket.send_text(it)
        await websocket.close()

    app.add_api_websocket_route("/ws", socket)
    with TestClient(app) as client:
        assert client.get("/http").json() == "/http"
        with client.websocket_connect("/ws") as connected:
            assert connected.receive_text() == "/ws"


# --- the report -------------------------------------------------------------------------------------------------------


def test_nothing_starts_when_something_is_wrong() -> None:
    """The whole plan is checked first: not even what is right has been started when the report comes."""
    log: list[str] = []
    app = FastAPI(lifespan=lifespan)
    app.add_api_route(
        "/", nothing, dependencies=[Depends(scoped("app")(lambda: log.append("started"))), Depends(transaction)]
    )
    refused(app)
    assert log == []


def test_the_users_own_lifespan_is_held_to_the_rules() -> None:
    """What the user's lifespan takes lives as long as the app, and it does not run when it cannot."""

    async def mine(_app: FastAPI, it: str = Depends(tenant)) -> AsyncIterator[None]:
        pytest.fail(f"it was run with {it}")
        yield

    (found,) = refused(FastAPI(lifespan=lifespan(mine))).findings
    assert chains(found) == [("captive-dependency", ["mine", "tenant"])]
    assert found.path[-1] == "used by the app's own lifespan"


def test_all_findings_are_in_one_report() -> None:
    """One start tells everything that is wrong with a graph."""
    app = FastAPI(lifespan=lifespan)
    bad: list[Callable[..., Any]] = [
        holding("app", tenant),
        scoped("app")(takes_header),
        transaction,
        Counter("requests", scope="cluster"),
        scoped("request")(takes_websocket),
        *(scoped("app", name="twice")(named("pool", "sales")) for _ in range(2)),
    ]
    app.add_api_route("/", nothing, dependencies=[Depends(call) for call in bad])
    report = refused(app)
    assert sorted(finding.code for finding in report.findings) == [
        "captive-dependency",
        "captive-dependency",
        "duplicate-name",
        "missing-engine",
        "request-data",
        "wrong-connection",
    ]
    assert report.message == "6 errors in 11 dependencies"
    assert all(str(finding) in str(report) for finding in report.findings)


@pytest.fixture
def program(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], FastAPI]]:
    """Write a program into the working folder and import its app."""
    monkeypatch.setattr("tenure.calls.WORKING_FOLDER", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def load(source: str) -> FastAPI:
        (tmp_path / "shop.py").write_text(HEAD + dedent(source))
        app: FastAPI = importlib.import_module("shop").app
        return app

    yield load
    sys.modules.pop("shop", None)


HEAD = """\
from __future__ import annotations
from typing import Annotated
from fastapi import Depends, FastAPI, Header, Request
from tenure import Counter, lifespan, scoped
app = FastAPI(lifespan=lifespan)
def nothing() -> None: ...
"""


def test_the_text_of_a_captive_dependency(program: Callable[[str], FastAPI]) -> None:
    """The report draws the way down to the request, names the routes, and says what to do."""
    app = program("""
        @scoped("request")
        async def tenant(request: Request) -> str:
            return request.headers["tenant"]

        def schema(tenant: Annotated[str, Depends(tenant)]) -> str:
            return tenant

        @scoped("app")
        async def pool(schema: Annotated[str, Depends(schema)]) -> str:
            return schema

        @app.get("/items")
        @app.get("/users")
        @app.post("/users")
        @app.delete("/users")
        @app.put("/users")
        async def handler(pool: Annotated[str, Depends(pool)]) -> None: ...
    """)
    assert str(refused(app)).strip() == dedent("""\
        error[captive-dependency]: app-scoped `pool` needs request-scoped `tenant`
          pool           app      shop.py:15
          └ schema                shop.py:12
            └ tenant     request  shop.py:8
              └ Request           fastapi
          used by PUT /users, DELETE /users, POST /users and 2 more

        hint: take `tenant` where `pool` is used, or give `tenant` the scope "app"
        see:  docs/errors.md#captive-dependency

        1 error in 3 dependencies""")


def test_the_text_of_request_data(program: Callable[[str], FastAPI]) -> None:
    """The report says which parameter is read from where, by whom."""
    app = program("""
        async def token(authorization: Annotated[str, Header()]) -> str:
            return authorization

        @scoped("app")
        async def client(token: Annotated[str, Depends(token)], retries: int) -> str:
            return token * retries

        app.get("/", dependencies=[Depends(client)])(nothing)
    """)
    assert str(refused(app)).strip() == dedent("""\
        error[request-data]: app-scoped `client` asks for request data: `retries` of `client` is read from the query or the body
          client                   app  shop.py:11
          └ the query or the body       fastapi
          used by GET /

        hint: nothing is requested when it starts: take `retries` from another dependency, as settings are, or give `client` the scope "request"
        see:  docs/errors.md#request-data

        error[request-data]: app-scoped `client` asks for request data: `authorization` of `token` is read from `Header`
          client        app  shop.py:11
          └ token            shop.py:8
            └ `Header`       fastapi
          used by GET /

        hint: nothing is requested when it starts: take `authorization` from another dependency, as settings are, or give `client` the scope "request"
        see:  docs/errors.md#request-data

        2 errors in 2 dependencies""")  # noqa: E501 (the text as it is)


def test_the_text_of_a_cycle(program: Callable[[str], FastAPI]) -> None:
    """The report draws the circle once round."""
    app = program("""
        @scoped("app")
        async def users(mail: Annotated[str, Depends(mail)]) -> str:
            return mail

        @scoped("app")
        async def mail(users: Annotated[str, Depends(users)]) -> str:
            return users

        app.websocket("/ws", dependencies=[Depends(mail)])(nothing)
    """)
    assert str(refused(app)).strip() == dedent("""\
        error[dependency-cycle]: `mail` needs itself
          mail      app  shop.py:12
          └ users   app  shop.py:8
            └ mail  app  shop.py:12
          used by WEBSOCKET /ws

        hint: take one of these parameters away, or let both depend on a third that holds what they share
        see:  docs/errors.md#dependency-cycle

        1 error in 2 dependencies""")


def test_the_text_of_names_and_engines(program: Callable[[str], FastAPI]) -> None:
    """The report lists all bearers of a name, and the scopes that there are."""
    app = program("""
        @scoped("app", name="db")
        async def one() -> int:
            return 1

        @scoped("app", name="db")
        async def two() -> int:
            return 2

        @scoped("cluster")
        async def migrated() -> int:
            return 3

        app.get("/", dependencies=[Depends(one), Depends(two), Depends(migrated)])(nothing)
    """)
    assert str(refused(app)).strip() == dedent("""\
        error[duplicate-name]: 2 resources are named `db`
          db  app  shop.py:8
          db  app  shop.py:12

        hint: give each a name of its own, `@scoped("app", name="…")`
        see:  docs/errors.md#duplicate-name

        error[missing-engine]: `migrated` has the scope `cluster`, which has no engine here
          migrated  cluster  shop.py:16
          used by GET /

        hint: say where machines share its value, `lifespan(state="valkey://host:6379")`, or set TENURE_STATE
        see:  docs/errors.md#missing-engine

        2 errors in 3 dependencies""")
