"""The three ways in: `lifespan`, `running` and `override`, and the refusals where a value does not live."""

import asyncio
import multiprocessing
import os
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.testclient import TestClient

from tenure import Resource, Scope, lifespan, override, running, scoped
from tenure.errors import (
    AlreadyClosed,
    CaptiveDependency,
    CloseError,
    CloseFailed,
    DeclarationError,
    NotRunning,
    NotStarted,
    OtherLoop,
    OtherProcess,
    OverrideError,
    PlanError,
    RequestData,
    StartFailed,
    TenureError,
)

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Pool:
    """Something that is opened and closed."""

    def __init__(self, name: str = "real") -> None:
        self.name = name


@scoped("app")
async def pool() -> AsyncIterator[Pool]:
    """Open the real thing."""
    log.append("+real")
    yield Pool()
    log.append("-real")


@scoped("app")
async def service(pool: Annotated[Pool, Depends(pool)]) -> str:
    """Build on the pool."""
    return f"service on {pool.name}"


@scoped("function")
async def connection(pool: Annotated[Pool, Depends(pool)]) -> AsyncIterator[str]:
    """Borrow from the pool."""
    log.append("+connection")
    yield f"connection of {pool.name}"
    log.append("-connection")


async def fake_pool() -> AsyncIterator[Pool]:
    """Open a double."""
    log.append("+fake")
    yield Pool("fake")
    log.append("-fake")


def make_app(**options: Any) -> FastAPI:
    """Make an app that uses all three."""
    app = FastAPI(**{"lifespan": lifespan, **options})

    @app.get("/")
    async def index(
        pool: Annotated[Pool, Depends(pool)],
        service: Annotated[str, Depends(service)],
        connection: Annotated[str, Depends(connection)],
    ) -> list[str]:
        return [pool.name, service, connection]

    @app.get("/pool")
    async def identity(pool: Annotated[Pool, Depends(pool)]) -> int:
        return id(pool)

    return app


REAL = ["real", "service on real", "connection of real"]
FAKE = ["fake", "service on fake", "connection of fake"]


def test_the_users_lifespan_runs_inside_and_its_state_is_kept() -> None:
    """A lifespan of one's own runs inside of the resources, takes them as parameters, and yields its state."""

    @asynccontextmanager
    async def mine(app: FastAPI, pool: Annotated[Pool, Depends(pool)]) -> AsyncIterator[dict[str, str]]:
        log.append(f"+mine {app.title} {pool.name}")
        yield {"greeting": "hello"}
        log.append("-mine")

    app = make_app(lifespan=lifespan(mine))

    @app.get("/state")
    async def state(request: Request) -> str:
        return str(request.state.greeting)

    with TestClient(app) as client:
        assert client.get("/state").json() == "hello"
    assert log == ["+real", "+mine FastAPI real", "-mine", "-real"]


def test_the_users_lifespan_is_held_to_the_rule() -> None:
    """A lifespan of one's own that asks for what a request ends is refused."""

    @asynccontextmanager
    async def mine(app: FastAPI, connection: Annotated[str, Depends(connection)]) -> AsyncIterator[None]:
        yield

    with (
        pytest.raises(PlanError, match="app-scoped `mine` needs function-scoped `connection`"),
        TestClient(make_app(lifespan=lifespan(mine))),
    ):
        pytest.fail("it started")


def test_router_lifespans_are_merged() -> None:
    """The lifespan of an included router runs beside tenure's, with its state."""

    @asynccontextmanager
    async def of_router(app: Any) -> AsyncIterator[dict[str, int]]:
        yield {"number": 7}

    router = APIRouter(lifespan=of_router)

    @router.get("/number")
    async def number(request: Request, service: Annotated[str, Depends(service)]) -> list[object]:
        return [request.state.number, service]

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/number").json() == [7, "service on real"]


async def test_running_serves_a_script_and_requests_in_process() -> None:
    """Inside `running`, look-ups, borrowed values and requests without a server get the same instances."""
    app = make_app()
    async with running(app) as scope:
        made = await scope.get(pool)
        async with scope.open(connection) as borrowed:
            assert borrowed == "connection of real"
        assert log == ["+real", "+connection", "-connection"]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            assert (await client.get("/pool")).json() == id(made)
            assert (await client.get("/")).json() == REAL
    assert log[-1] == "-real"


async def test_running_needs_no_app() -> None:
    """Resources run on their own in a script."""
    async with running(also=[service]) as scope:
        assert await scope.get(service) == "service on real"
    assert log == ["+real", "-real"]


async def test_what_needs_a_request_cannot_be_had_outside() -> None:
    """`get` refuses what a request ends, and `open` what is made from one, each with what to do instead."""

    @scoped("request")
    async def path(request: Request) -> str:
        return request.url.path

    async with running(also=[pool]) as scope:
        with pytest.raises(NotStarted, match=r"hint: open it for a block: `async with scope.open\(connection\)"):
            await scope.get(connection)
        with pytest.raises(RequestData, match="`path` takes `request` from Request"):
            async with scope.open(path):
                pytest.fail("it opened")
        with pytest.raises(NotStarted, match=r"`service` was not in the plan.*\n\nhint: .*also=\[service\]"):
            await scope.get(service)


def test_an_override_before_the_start_is_started_instead() -> None:
    """An overridden resource is never opened; its override is, once, for all that need it, and closed."""
    app = make_app()
    with override(app, {pool: fake_pool}), TestClient(app) as client:
        assert client.get("/").json() == FAKE
        assert client.get("/pool").json() == client.get("/pool").json()
    assert log == ["+fake", "+connection", "-connection", "-fake"]
    with TestClient(app) as client:
        assert client.get("/").json() == REAL


def test_an_override_set_by_hand_before_the_start_is_started_instead() -> None:
    """`app.dependency_overrides`, FastAPI's own way, means the same, and holds the same again afterwards."""
    app = make_app()
    app.dependency_overrides[pool] = fake_pool
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/").json() == FAKE
        assert app.dependency_overrides == {pool: fake_pool}
    assert "+real" not in log


def test_a_resource_may_override_a_resource() -> None:
    """An override that is itself a resource is started as one."""

    @scoped("app")
    async def other() -> Pool:
        return Pool("fake")

    app = make_app()
    with override(app, {pool: other}), TestClient(app) as client:
        assert client.get("/").json() == FAKE


@pytest.mark.parametrize("is_resource", [True, False])
async def test_what_is_looked_up_is_what_overrides_it(*, is_resource: bool) -> None:
    """`get` gives what has started in the place of a resource, with another run of the app open as well."""

    @scoped("app")
    async def other() -> Pool:
        return Pool("fake")

    app = make_app()
    with override(app, {pool: other if is_resource else fake_pool}):
        async with running(app) as scope:
            assert (await scope.get(pool)).name == "fake"
            async with running(app) as again:
                assert (await again.get(pool)).name == "fake"
                assert await again.get(pool) is not await scope.get(pool)
        with TestClient(app) as client:
            assert client.get("/").json() == FAKE
            async with running(app) as scope:
                assert (await scope.get(pool)).name == "fake"
    assert "+real" not in log


def test_a_later_override_holds_for_its_block() -> None:
    """An override of a running app serves the requests of its block; before and after it is as it was."""
    app = make_app()
    with TestClient(app) as client:
        with override(app, {pool: lambda: Pool("fake"), connection: lambda: "stub"}):
            assert client.get("/").json() == ["fake", "service on real", "stub"]
            with override(app, {connection: lambda: "inner"}):
                assert client.get("/").json()[2] == "inner"
            assert client.get("/").json()[2] == "stub"
        assert client.get("/").json() == REAL
    assert app.dependency_overrides == {}


def test_an_override_that_takes_request_data_is_solved_for_each_request() -> None:
    """An override that reads a header, itself or by way of another, cannot start with the app but serves requests."""

    async def named(name: Annotated[str, Header()]) -> str:
        return name

    async def for_request(name: Annotated[str, Depends(named)]) -> Pool:
        return Pool(name)

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(pool: Annotated[Pool, Depends(pool)]) -> str:
        return pool.name

    with override(app, {pool: for_request}), TestClient(app) as client:
        assert client.get("/", headers={"name": "ada"}).json() == "ada"
    assert log == []


def test_an_override_taken_away_too_soon_is_named() -> None:
    """A request for what was never started, since it was overridden at the start, is told so."""
    app = make_app()
    with override(app, {pool: fake_pool}):
        client = TestClient(app)
        client.__enter__()
    try:
        with pytest.raises(NotStarted, match="`pool` was overridden when the app started"):
            client.get("/pool")
    finally:
        client.__exit__(None, None, None)


def test_an_override_that_is_no_dependency_is_refused() -> None:
    """`{pool: fake}` with an object is refused at once, naming what to write."""
    app = make_app()
    with pytest.raises(OverrideError, match=r"`\{pool: lambda: fake\}`"), override(app, {pool: Pool("fake")}):  # type: ignore[dict-item]
        pytest.fail("it was taken")
    app.dependency_overrides[pool] = Pool("fake")  # type: ignore[assignment]
    with pytest.raises(OverrideError, match="which is not a dependency"), TestClient(app):
        pytest.fail("it started")


def test_two_clients_of_one_app_have_their_own_instances() -> None:
    """One app that is started twice at once keeps an instance for each event loop."""
    app = make_app()
    with TestClient(app) as one, TestClient(app) as two:
        first, second = one.get("/pool").json(), two.get("/pool").json()
        assert first != second
        assert (one.get("/pool").json(), two.get("/pool").json()) == (first, second)


def test_an_app_starts_again_and_again() -> None:
    """Each start of an app opens anew and closes all."""
    app = make_app()
    for _ in range(3):
        with TestClient(app) as client:
            assert client.get("/").json() == REAL
    assert log == ["+real", "+connection", "-connection", "-real"] * 3


def test_use_before_the_start_is_refused() -> None:
    """A request to an app that was not started says so, with the cure."""
    with pytest.raises(NotStarted, match="`pool` was asked for by a request, but its app was not started"):
        TestClient(make_app()).get("/pool")
    with pytest.raises(NotStarted, match=r"hint: give the app tenure's lifespan, `FastAPI\(lifespan=lifespan\)`"):
        TestClient(make_app(lifespan=None)).get("/pool")


async def test_use_after_the_close_is_refused() -> None:
    """A request to an app that has stopped, and a look-up in a scope that has ended, say so."""
    app = make_app()
    async with running(app) as scope:
        pass
    with pytest.raises(AlreadyClosed, match="`pool` was used after its app had closed it"):
        await scope.get(pool)
    with pytest.raises(AlreadyClosed, match="`pool` was used after its app had closed it"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            await client.get("/pool")


async def test_use_in_another_loop_is_refused() -> None:
    """A look-up from another event loop says so."""

    async def elsewhere(scope: Scope) -> str:
        with pytest.raises(OtherLoop) as caught:
            await scope.get(pool)
        return caught.value.message

    async with running(make_app()) as scope:
        message = await asyncio.to_thread(asyncio.run, elsewhere(scope))
    assert message == "`pool` was started in one event loop and used in another"


async def test_use_in_a_forked_child_is_refused() -> None:
    """A look-up in a forked child says so, naming both processes."""

    def look_up(scope: Scope, sender: Any) -> None:
        try:
            asyncio.new_event_loop().run_until_complete(scope.get(pool))
        except NotRunning as error:
            sender.send((type(error), error.message))

    receiver, sender = multiprocessing.Pipe(duplex=False)
    async with running(make_app()) as scope:
        child = multiprocessing.get_context("fork").Process(target=look_up, args=(scope, sender))
        await asyncio.to_thread(child.start)
        kind, message = await asyncio.to_thread(receiver.recv)
        await asyncio.to_thread(child.join)
    assert kind is OtherProcess
    assert message == f"`pool` was started in process {os.getpid()} and used in process {child.pid}"


@pytest.mark.parametrize(
    ("mistake", "kind", "message"),
    [
        (lambda: lifespan(3), DeclarationError, "is neither an app nor a lifespan of yours"),  # type: ignore[call-overload]
        (lambda: running(FastAPI()), NotStarted, "does not have tenure's lifespan"),
        (lambda: running(make_app(), also=[pool]), DeclarationError, "has both an app and resources"),
        (lambda: running(also=[fake_pool]), DeclarationError, "which is not a resource"),  # type: ignore[list-item]
        (lambda: lifespan(also=[pool])(object()), DeclarationError, "which is not a FastAPI app"),  # type: ignore[arg-type]
    ],
)
async def test_a_wrong_way_in_is_refused_with_the_right_one(
    mistake: Any, kind: type[TenureError], message: str
) -> None:
    """Each wrong use of the three ways in says what to write."""
    with pytest.raises(kind, match=message) as caught:
        async with mistake():
            pytest.fail("it started")
    assert caught.value.hint


async def test_importing_and_declaring_opens_nothing() -> None:
    """A resource and an app that uses it open no socket, file or thread before the app starts."""
    opened = [Path("/proc/self/fd"), Path("/proc/self/task")]
    before = [len(list(folder.iterdir())) for folder in opened]
    resource: Resource[Pool] = scoped("app")(fake_pool)
    app = FastAPI(lifespan=lifespan(also=[resource]))
    app.get("/")(lambda pool=Depends(resource): None)
    assert [len(list(folder.iterdir())) for folder in opened] == before
    assert log == []


def test_errors_cross_a_process_pool() -> None:
    """Every kind of error survives pickling with all that it says."""
    errors = [
        PlanError([CaptiveDependency("a needs b", path=["a", "b"], hint="do not")], total=2),
        CloseFailed([CloseError("`a` failed to close", path=["here"])]),
        StartFailed("`a` did not start", hint="wait", close_errors=[CloseError("`b` failed")]),
        NotStarted("`a` was used", hint="start it"),
    ]
    copies = pickle.loads(pickle.dumps(errors))  # noqa: S301 (made on the line above)
    assert [str(error) for error in copies] == [str(error) for error in errors]


def test_a_start_outside_of_asyncio_is_refused() -> None:
    """Driven by something that is no asyncio loop, the start says so at once."""
    start = running(also=[pool]).__aenter__()
    with pytest.raises(NotStarted, match="the app was started outside of asyncio"):
        start.send(None)  # type: ignore[attr-defined] # what an event loop does with a coroutine


async def test_what_was_not_started_is_named_however_it_is_reached() -> None:
    """Opening what needs an unplanned resource says which, and so does a look-up of that resource afterwards."""
    async with running(also=[scoped("app", name="other")(lambda: 1)]) as scope:
        for _ in range(2):
            with pytest.raises(NotStarted, match="`pool` was not in the plan when the app started"):
                async with scope.open(connection):
                    pytest.fail("it opened")
            with pytest.raises(NotStarted, match="`pool` was not in the plan when the app started"):
                await scope.get(pool)


async def test_what_is_opened_is_held_to_the_rule() -> None:
    """A resource that no route takes is checked when it is opened, each time."""

    @scoped("request")
    async def holder(connection: Annotated[str, Depends(connection)]) -> str:
        return connection

    async with running(also=[pool]) as scope:
        for _ in range(2):
            with pytest.raises(PlanError, match="request-scoped `holder` needs function-scoped `connection`"):
                async with scope.open(holder):
                    pytest.fail("it opened")


async def test_what_is_refused_does_not_stand_in_the_way_of_others() -> None:
    """After an `open` that was refused, what is in order opens, and what was refused is refused again."""

    @scoped("request")
    async def holder(connection: Annotated[str, Depends(connection)]) -> str:
        return connection

    @scoped("function")
    async def bad(holder: Annotated[str, Depends(holder)]) -> str:
        return holder

    async with running(also=[pool]) as scope:
        for _ in range(2):
            with pytest.raises(PlanError, match="request-scoped `holder` needs function-scoped `connection`"):
                async with scope.open(bad):
                    pytest.fail("it opened")
            async with scope.open(connection) as opened:
                assert opened == "connection of real"


def test_an_overridden_resource_is_free_for_tests_that_do_not_touch_it() -> None:
    """An app of which everything is overridden starts two hundred times without opening anything real."""
    app = make_app()
    replaced = {pool: lambda: Pool("fake"), connection: lambda: "stub"}
    for _ in range(200):
        with override(app, replaced), TestClient(app):
            pass
    assert log == []
