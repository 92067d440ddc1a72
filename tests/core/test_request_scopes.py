"""Function and request scope: one instance per request, closed when its scope says, with FastAPI's own manners."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Security,
    WebSocket,
)
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from fastapi.security import SecurityScopes
from fastapi.testclient import TestClient

from tenure import lifespan, running, scoped
from tenure.errors import UnsupportedFastAPI

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Thing:
    """Something with an identity."""


@scoped("app")
async def shared() -> Thing:
    """Make the one thing of the app."""
    return Thing()


@scoped("function")
async def borrowed(shared: Annotated[Thing, Depends(shared)]) -> AsyncIterator[Thing]:
    """Borrow a thing for a handler."""
    assert isinstance(shared, Thing)
    log.append("+function")
    try:
        yield Thing()
    except BaseException as error:
        log.append(f"!function {type(error).__name__}")
        raise
    finally:
        log.append("-function")


@scoped("request")
async def visit() -> AsyncIterator[Thing]:
    """Make a thing for a request."""
    log.append("+request")
    try:
        yield Thing()
    except BaseException as error:
        log.append(f"!request {type(error).__name__}")
        raise
    finally:
        log.append("-request")


Borrowed = Annotated[Thing, Depends(borrowed)]
Visit = Annotated[Thing, Depends(visit)]


async def repository(borrowed: Borrowed) -> Thing:
    """Pass on what it takes."""
    return borrowed


def client_of(app: FastAPI, **options: Any) -> TestClient:
    """Make a client that sees server errors as answers."""
    return TestClient(app, raise_server_exceptions=False, **options)


def test_one_instance_whoever_asks_and_in_whatever_depends_scope() -> None:
    """Endpoint, sub-dependency, router, app and every `Depends(scope=)` of one request get the same instance."""
    seen: list[Thing] = []

    async def remember(borrowed: Borrowed) -> None:
        seen.append(borrowed)

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(remember), Depends(borrowed)])
    router = APIRouter(dependencies=[Depends(remember)])

    @router.get("/")
    async def index(
        a: Borrowed,
        b: Annotated[Thing, Depends(borrowed, scope="request")],
        c: Annotated[Thing, Depends(borrowed, scope="function")],
        d: Annotated[Thing, Depends(repository)],
    ) -> bool:
        return a is b is c is d is seen[-1]

    app.include_router(router)
    with client_of(app) as client:
        assert client.get("/").json() is True
        assert client.get("/").json() is True
    assert log == ["+function", "-function"] * 2
    assert seen[0] is not seen[-1]


def test_use_cache_off_makes_a_fresh_one() -> None:
    """`use_cache=False` gives an instance of its own, closed with the others, at whatever depth."""

    async def deeper(thing: Annotated[Thing, Depends(borrowed, use_cache=False)]) -> Thing:
        return thing

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(
        a: Borrowed,
        b: Annotated[Thing, Depends(borrowed, use_cache=False)],
        c: Annotated[Thing, Depends(deeper)],
        d: Borrowed,
    ) -> list[bool]:
        return [a is b, a is c, b is c, a is d]

    with client_of(app) as client:
        assert client.get("/").json() == [False, False, False, True]
        app.dependency_overrides[len] = len  # an unrelated override makes FastAPI solve by another way
        assert client.get("/").json() == [False, False, False, True]
    assert log == [*["+function"] * 3, *["-function"] * 3] * 2


def test_function_scope_ends_before_the_answer_and_request_scope_after_it() -> None:
    """`function` is closed before the first byte of a stream, `request` after the last and after background tasks."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(_f: Borrowed, _r: Visit, tasks: BackgroundTasks) -> StreamingResponse:
        tasks.add_task(log.append, "task")

        async def body() -> AsyncIterator[bytes]:
            log.append("first byte")
            yield b"."
            log.append("last byte")

        return StreamingResponse(body())

    with client_of(app) as client:
        client.get("/")
    assert log == ["+function", "+request", "-function", "first byte", "last byte", "task", "-request"]


def test_function_scope_ends_after_the_answer_is_serialised() -> None:
    """An answer that cannot be serialised is an error inside of the function scope."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(_f: Borrowed) -> int:
        return "no number"  # type: ignore[return-value]

    with client_of(app) as client:
        assert client.get("/").status_code == 500
    assert log == ["+function", "!function ResponseValidationError", "-function"]


@pytest.mark.parametrize(("error", "status"), [(HTTPException(418), 418), (ValueError("no"), 500)])
def test_the_handlers_exception_is_thrown_into_the_generators(error: Exception, status: int) -> None:
    """What the handler raises passes through both scopes, from the inner to the outer."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(_r: Visit, _f: Borrowed) -> None:
        raise error

    with client_of(app) as client:
        assert client.get("/").status_code == status
    name = type(error).__name__
    assert log == ["+request", "+function", f"!function {name}", "-function", f"!request {name}", "-request"]


def test_a_close_that_fails_is_the_error_that_the_client_gets() -> None:
    """When a function-scoped close raises, as a commit may, the client does not hear of success."""

    @scoped("function")
    async def transaction() -> AsyncIterator[None]:
        yield
        raise HTTPException(409, "could not commit")

    app = FastAPI(lifespan=lifespan)

    @app.post("/", status_code=201)
    async def create(_t: Annotated[None, Depends(transaction)]) -> str:
        return "created"

    with client_of(app) as client:
        answer = client.post("/")
    assert (answer.status_code, answer.json()) == (409, {"detail": "could not commit"})


def test_a_failing_enter_closes_what_was_entered() -> None:
    """When a later dependency raises, earlier ones are closed with the error."""

    @scoped("function")
    async def broken(_b: Borrowed) -> AsyncIterator[None]:
        raise HTTPException(503)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(_b: Annotated[None, Depends(broken)]) -> None: ...

    with client_of(app) as client:
        assert client.get("/").status_code == 503
    assert log == ["+function", "!function HTTPException", "-function"]


def test_factories_take_fastapi_parameters() -> None:
    """A request-scoped factory is given headers, queries, the request and dependencies, validated and documented."""

    @scoped("request")
    async def tenant(
        request: Request,
        x_tenant: Annotated[str, Header()],
        shared: Annotated[Thing, Depends(shared)],
        level: Annotated[int, Query(ge=0)] = 1,
    ) -> dict[str, object]:
        return {"tenant": x_tenant, "level": level, "path": request.url.path, "thing": isinstance(shared, Thing)}

    app = FastAPI(lifespan=lifespan)

    @app.get("/here")
    async def index(tenant: Annotated[dict[str, object], Depends(tenant)]) -> dict[str, object]:
        return tenant

    with client_of(app) as client:
        answer = client.get("/here?level=2", headers={"x-tenant": "ada"})
        assert answer.json() == {"tenant": "ada", "level": 2, "path": "/here", "thing": True}
        assert client.get("/here?level=-1", headers={"x-tenant": "ada"}).status_code == 422
        assert client.get("/here").json()["detail"][0]["loc"] == ["header", "x-tenant"]
        parameters = client.get("/openapi.json").json()["paths"]["/here"]["get"]["parameters"]
        assert sorted(parameter["name"] for parameter in parameters) == ["level", "x-tenant"]


def test_security_scopes_keep_instances_apart() -> None:
    """A resource that reads security scopes is made for each set of them; one that does not is shared."""

    @scoped("request")
    async def permissions(scopes: SecurityScopes, visit: Visit) -> tuple[list[str], int]:
        return scopes.scopes, id(visit)

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(
        a: Annotated[tuple[list[str], int], Security(permissions, scopes=["read"])],
        b: Annotated[tuple[list[str], int], Security(permissions, scopes=["write"])],
        visit: Visit,
    ) -> list[object]:
        return [a[0], b[0], a[1] == b[1] == id(visit)]

    with client_of(app) as client:
        assert client.get("/").json() == [["read"], ["write"], True]


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_sync_and_async_handlers_and_factories_mix(path: str) -> None:
    """Sync factories run in threads and serve handlers of both kinds, closed in reverse."""

    @scoped("request")
    def made() -> Thing:
        return Thing()

    @scoped("function")
    def opened(made: Annotated[Thing, Depends(made)]) -> Iterator[Thing]:
        log.append("+sync")
        yield made
        log.append("-sync")

    app = FastAPI(lifespan=lifespan)

    @app.get("/async")
    async def handle(a: Annotated[Thing, Depends(made)], b: Annotated[Thing, Depends(opened)]) -> bool:
        return a is b

    @app.get("/sync")
    def handle_sync(a: Annotated[Thing, Depends(made)], b: Annotated[Thing, Depends(opened)]) -> bool:
        return a is b

    with client_of(app) as client:
        assert client.get(path).json() is True
    assert log == ["+sync", "-sync"]


def test_websockets_are_served_as_requests_are() -> None:
    """A websocket gets app-, function- and request-scoped values, one each, and closes them at its end."""

    @scoped("request")
    async def kind(connection: HTTPConnection) -> str:
        return str(connection.scope["type"])

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def talk(
        socket: WebSocket,
        kind: Annotated[str, Depends(kind)],
        a: Borrowed,
        b: Annotated[Thing, Depends(repository)],
        _v: Visit,
    ) -> None:
        await socket.accept()
        await socket.send_json([kind, a is b])
        await socket.close()

    with client_of(app) as client, client.websocket_connect("/ws") as socket:
        assert socket.receive_json() == ["websocket", True]
    assert log == ["+function", "+request", "-function", "-request"]


def test_one_asgi_scope_sent_twice_gets_two_instances() -> None:
    """A middleware that retries a request does not get what the first try has closed."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(_b: Borrowed) -> None: ...

    class Retry:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":

                async def ignore(message: Any) -> None: ...

                await self.app(scope, receive, ignore)
            await self.app(scope, receive, send)

    app.add_middleware(Retry)
    with client_of(app) as client:
        client.get("/")
    assert log == ["+function", "-function"] * 2


def test_openapi_is_what_it_is_without_resources() -> None:
    """Resources add nothing to the schema but what their factories take."""
    app, plain = FastAPI(lifespan=lifespan), FastAPI()

    @app.get("/")
    async def index(_s: Annotated[Thing, Depends(shared)], _b: Borrowed) -> int:
        return 1

    async def index() -> int:  # type: ignore[misc] # noqa: F811 (the same name makes the same schema)
        return 1

    plain.get("/")(index)
    assert app.openapi() == plain.openapi()


async def test_a_fastapi_without_its_exit_stacks_is_refused() -> None:
    """Where a request has no exit stack at the place that tenure knows, nothing is opened, and the error says why."""
    app = FastAPI(lifespan=lifespan(also=[shared]))
    async with running(app):
        request = Request({"type": "http", "app": app})
        with pytest.raises(UnsupportedFastAPI, match="`visit` has nowhere to be closed"):
            await visit(tenure_connection=request)
    assert log == []
