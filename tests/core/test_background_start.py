"""`start="background"`: the server listens while resources start, and requests wait for what they need."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from tenure import Resource, lifespan, override, running, scoped
from tenure.errors import AlreadyClosed, DeclarationError, StartFailed
from tenure.fastapi.application import Application
from tenure.fastapi.binding import Binding
from tenure.ops import ops_router
from tenure.ops.operations import Operations, Reading
from tenure.refusals import NeverStarted, Refusal, StillStarting

PROBLEM = "application/problem+json"


class Started:
    """Two resources, one of which starts when it is let, or fails; and an app that takes them."""

    def __init__(self, *, wait: float = 500, mine: Any = None) -> None:
        self.let = asyncio.Event()
        self.error: Exception | None = None
        self.order: list[str] = []
        self.errors: list[Refusal] = []

        @scoped("app")
        async def settings() -> AsyncIterator[str]:
            yield "settings"
            self.order.append("settings closed")

        @scoped("app")
        async def model(_: Annotated[str, Depends(settings)]) -> AsyncIterator[str]:
            self.order.append("model begun")
            await self.let.wait()
            if self.error is not None:
                raise self.error
            yield "model"
            self.order.append("model closed")

        @scoped("app")
        async def users(model: Annotated[str, Depends(model)]) -> str:
            return f"users by {model}"

        @scoped("request")
        async def session(users: Annotated[str, Depends(users)]) -> AsyncIterator[str]:
            yield f"session of {users}"

        self.settings: Resource[str] = settings
        self.model: Resource[str] = model
        self.app = FastAPI(lifespan=lifespan(mine, start="background", wait=wait))
        self.app.include_router(ops_router())

        @self.app.get("/settings")
        async def _(settings: Annotated[str, Depends(settings)]) -> str:
            return settings

        @self.app.get("/users")
        async def _(users: Annotated[str, Depends(users)], model: Annotated[str, Depends(model)]) -> list[str]:
            return [users, model]

        @self.app.get("/session")
        async def _(session: Annotated[str, Depends(session)]) -> str:
            return session

        @self.app.exception_handler(Refusal)
        async def refused(request: Request, error: Refusal) -> JSONResponse:
            self.errors.append(error)
            answer = await http_exception_handler(request, error)
            assert isinstance(answer, JSONResponse)
            return answer

    @asynccontextmanager
    async def served(self) -> AsyncIterator[httpx.AsyncClient]:
        """Serve the app as a server does once it listens."""
        transport = httpx.ASGITransport(self.app)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            yield client

    async def until_begun(self) -> None:
        """Wait until the resource that is to be let starts."""
        async with asyncio.timeout(30):
            while "model begun" not in self.order:
                await asyncio.sleep(0)


async def until_answered(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """Ask until the answer is of a kind."""
    async with asyncio.timeout(30):
        while (answer := await client.get(path)).status_code != status:
            await asyncio.sleep(0.01)
    return answer


class TestWhileItStarts:
    """What is served before all is ready."""

    async def test_a_request_waits_for_what_it_needs_and_for_nothing_else(self) -> None:
        """One is answered at once whose resources are ready; one that needs what starts waits for that."""
        started = Started()
        async with started.served() as client:
            assert (await client.get("/settings")).json() == "settings"
            waiting = [asyncio.create_task(client.get(path)) for path in ("/users", "/session")]
            await started.until_begun()
            assert not any(each.done() for each in waiting)
            started.let.set()
            assert (await waiting[0]).json() == ["users by model", "model"]
            assert (await waiting[1]).json() == "session of users by model"

    async def test_a_request_that_has_waited_is_told_to_come_back(self, caplog: pytest.LogCaptureFixture) -> None:
        """It is answered 503 as a problem, with `Retry-After` and nothing internal; the log says what is waited for."""
        started = Started(wait=0.05)
        async with started.served() as client:
            answers = [await client.get("/users") for _ in range(2)]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["content-type"] == PROBLEM
            assert answer.headers["retry-after"] == "1"
            assert answer.json() == {"detail": "the service is still starting"}
        error = started.errors[0]
        assert isinstance(error, StillStarting)
        place = f"tests/core/test_background_start.py:{started.model.factory.__code__.co_firstlineno}"
        assert error.path == (f"`model` is starting, declared at {place}",)
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [str(error)]
        assert "`users` was not ready after a request had waited 0.05 s for it" in caplog.text

    async def test_a_request_waits_once(self) -> None:
        """However many resources a request needs, one after the other, it waits no longer than it may."""
        first, second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        @scoped("app")
        async def early() -> None:
            await first.wait()

        @scoped("app")
        async def late() -> None:
            await second.wait()

        app = FastAPI(lifespan=lifespan(start="background", wait=0.5))

        @app.get("/", dependencies=[Depends(early), Depends(late)])
        async def index() -> None:
            """Never be called."""

        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
        ):
            loop.call_later(0.4, first.set)
            began = loop.time()
            assert (await client.get("/")).status_code == 503
            assert loop.time() - began < 0.9

    async def test_probes_are_answered_at_once(self) -> None:
        """`/livez` says that it lives, `/readyz` that it is not ready; once all has started, that it is."""
        started = Started()
        async with started.served() as client:
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/readyz")).status_code == 503
            started.let.set()
            await until_answered(client, "/readyz", 200)

    async def test_what_tells_of_the_app_is_not_waited_for(self) -> None:
        """What answers probes is nothing as long as it has not started itself."""
        let = asyncio.Event()

        async def slow() -> Operations:
            await let.wait()
            raise LookupError

        app, reader = FastAPI(lifespan=lifespan(start="background", wait=500)), Reading(slow, scope="app")

        @app.get("/")
        async def index(reader: Annotated[Operations | None, Depends(reader)]) -> bool:
            return reader is None

        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
        ):
            assert (await client.get("/")).json() is True

    async def test_routes_are_bound_once_all_is_ready(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A route that was asked for before is solved as any other afterwards."""
        bound: list[bool] = []
        route = Binding.route

        def noted(binding: Binding, dependant: Any, provider: Any) -> Any:
            found = route(binding, dependant, provider)
            bound.append(found is not None)
            return found

        monkeypatch.setattr(Binding, "route", noted)
        started = Started()
        async with started.served() as client:
            assert (await client.get("/settings")).json() == "settings"
            started.let.set()
            await until_answered(client, "/readyz", 200)
            bound.append(True)
            assert (await client.get("/settings")).json() == "settings"
            assert (await client.get("/users")).json() == ["users by model", "model"]
        assert bound[0] is False
        assert bound[-2:] == [True, True]

    async def test_what_overrides_is_waited_for_too(self) -> None:
        """A test double that starts is waited for in the place of what it replaces."""
        started, let = Started(), asyncio.Event()

        async def double() -> str:
            await let.wait()
            return "double"

        with override(started.app, {started.model: double}):
            async with started.served() as client:
                request = asyncio.create_task(client.get("/users"))
                await asyncio.sleep(0)
                let.set()
                assert (await request).json() == ["users by double", "double"]
        assert started.order == ["settings closed"]


class TestFailed:
    """A start that fails while the server listens."""

    async def test_requests_are_refused_and_the_log_has_it_all(self, caplog: pytest.LogCaptureFixture) -> None:
        """Who waits, and who comes later, is answered 503; what had started is closed; `/livez` and the log say why."""
        started = Started()
        async with started.served() as client:
            waiting = asyncio.create_task(client.get("/users"))
            await started.until_begun()
            started.error = ConnectionError("no model store")
            started.let.set()
            for answer in (await waiting, await client.get("/users"), await client.get("/settings")):
                assert answer.status_code == 503
                assert answer.headers["content-type"] == PROBLEM
                assert answer.json() == {"detail": "the service could not start"}
            assert started.order == ["model begun", "settings closed"]
            assert (await client.get("/livez")).status_code == 503
            assert (await client.get("/readyz")).status_code == 503
        error = started.errors[0]
        assert isinstance(error, NeverStarted)
        assert isinstance(error.__cause__, StartFailed)
        assert "`model` did not start: ConnectionError: no model store" in error.message
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "error[start-failed]: `model` did not start: ConnectionError: no model store" in record.getMessage()
        assert "used by GET /users" in record.getMessage()
        assert record.exc_info is not None
        assert started.order == ["model begun", "settings closed"]

    async def test_a_request_waits_while_what_had_started_is_closed(self) -> None:
        """It is not given what is being closed: it is refused once the start has failed."""
        closing, let = asyncio.Event(), asyncio.Event()

        @scoped("app")
        async def slow_to_close() -> AsyncIterator[str]:
            yield "open"
            closing.set()
            await let.wait()

        @scoped("app")
        async def failing(_: Annotated[str, Depends(slow_to_close)]) -> None:
            raise ConnectionError

        app = FastAPI(lifespan=lifespan(also=[failing], start="background"))

        @app.get("/")
        async def index(slow: Annotated[str, Depends(slow_to_close)]) -> str:
            return slow

        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
        ):
            await closing.wait()
            request = asyncio.create_task(client.get("/"))
            await asyncio.sleep(0)
            let.set()
            assert (await request).json() == {"detail": "the service could not start"}

    async def test_what_is_closed_is_not_closed_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """A close that failed after a start that failed is told with that, and not once more at the end."""

        @scoped("app")
        async def fails_to_close() -> AsyncIterator[str]:
            yield "open"
            raise OSError

        @scoped("app")
        async def failing(_: Annotated[str, Depends(fails_to_close)]) -> None:
            raise ConnectionError

        app = FastAPI(lifespan=lifespan(also=[failing], start="background"))
        async with app.router.lifespan_context(app):
            async with asyncio.timeout(30):
                while not caplog.records:
                    await asyncio.sleep(0)
        (record,) = caplog.records
        assert "while closing what had started:" in record.getMessage()

    async def test_what_fails_before_resources_start_is_a_failure_too(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A deployment without a valid name, as the environment has it, is told likewise."""
        monkeypatch.setenv("TENURE_DEPLOYMENT", "no/folder")

        @scoped("host")
        async def shared() -> str:
            return "shared"

        app = FastAPI(lifespan=lifespan(start="background"))

        @app.get("/")
        async def index(shared: Annotated[str, Depends(shared)]) -> str:
            return shared

        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app) as state,
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            assert (await client.get("/")).status_code == 503
            application = state["tenure"]
            assert isinstance(application, Application)
            assert application.phase == "failed"
        assert application.phase == "stopped"
        assert "error[declaration]" in caplog.text


@pytest.fixture
def server() -> Iterator[None]:
    """Have SIGTERM handled, as a server has."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


class TestShutdown:
    """An app that is told to end while it starts."""

    @pytest.mark.usefixtures("server")
    async def test_it_is_cancelled_and_closed_in_reverse(self) -> None:
        """A request that waits is told to come back; then what starts is cancelled, and what had started is closed."""
        started = Started()
        async with started.served() as client:
            waiting = asyncio.create_task(client.get("/users"))
            await started.until_begun()
            signal.raise_signal(signal.SIGTERM)
            assert (await waiting).json() == {"detail": "the service is still starting"}
            assert "was not ready when the app was told to end" in started.errors[0].message
            assert (await client.get("/settings")).json() == "settings"
        assert started.order == ["model begun", "settings closed"]

    async def test_an_error_of_the_lifespan_ends_it_likewise(self) -> None:
        """Where the block raises, the error comes out, and nothing stays open."""
        started = Started()

        async def serve() -> None:
            async with started.served():
                await started.until_begun()
                raise LookupError

        with pytest.raises(LookupError):
            await serve()
        assert started.order == ["model begun", "settings closed"]

    async def test_a_cancelled_server_leaves_nothing_open(self) -> None:
        """Where the lifespan's own task is cancelled, again while it closes, all is closed."""
        opened, closing, let = asyncio.Event(), asyncio.Event(), asyncio.Event()
        closed: list[bool] = []

        @scoped("app")
        async def slow_to_close() -> AsyncIterator[str]:
            yield "open"
            closing.set()
            await let.wait()
            closed.append(True)

        @scoped("app")
        async def slow_to_start(_: Annotated[str, Depends(slow_to_close)]) -> None:
            opened.set()
            await asyncio.Event().wait()

        app = FastAPI(lifespan=lifespan(also=[slow_to_start], start="background"))

        async def serve() -> None:
            async with app.router.lifespan_context(app):
                await asyncio.Event().wait()

        server = asyncio.create_task(serve())
        await opened.wait()
        server.cancel()
        await closing.wait()
        server.cancel()
        asyncio.get_running_loop().call_soon(let.set)
        with pytest.raises(asyncio.CancelledError):
            await server
        assert closed == [True]


class TestOwnLifespan:
    """A lifespan of one's own, which may take resources."""

    async def test_what_it_takes_is_waited_for(self) -> None:
        """It runs once its own parameters are ready, whatever else still starts."""
        seen: list[str] = []

        @scoped("app")
        async def quick() -> str:
            return "quick"

        @asynccontextmanager
        async def mine(_: FastAPI, quick: Annotated[str, Depends(quick)]) -> AsyncIterator[None]:
            seen.append(quick)
            yield

        started = Started(mine=mine)
        async with started.served() as client:
            assert seen == ["quick"]
            assert (await client.get("/readyz")).status_code == 503

    async def test_it_fails_with_what_it_takes(self) -> None:
        """Where that does not start, nor does the server."""

        @scoped("app")
        async def failing() -> None:
            raise ConnectionError

        @asynccontextmanager
        async def mine(_: FastAPI, failing: Annotated[None, Depends(failing)]) -> AsyncIterator[None]:
            del failing
            yield

        started = Started(mine=mine)
        with pytest.raises(StartFailed, match="`failing` did not start"):
            async with started.served():
                pass
        assert started.order[-1] == "settings closed"


class TestInTests:
    """What a test sees of an app that starts in the background."""

    async def test_running_waits_until_all_is_ready(self) -> None:
        """The block of `running` begins when all is ready."""
        started = Started()
        asyncio.get_running_loop().call_later(0.05, started.let.set)
        async with running(started.app) as scope:
            assert await scope.get(started.model) == "model"
        assert started.order == ["model begun", "model closed", "settings closed"]
        with pytest.raises(AlreadyClosed):
            await scope.get(started.model)

    async def test_running_raises_what_fails(self) -> None:
        """A start that fails is raised, as without the background."""
        started = Started()
        started.error = ConnectionError("no model store")
        started.let.set()
        with pytest.raises(StartFailed, match="no model store"):
            async with running(started.app):
                pytest.fail("it started")
        assert started.order == ["model begun", "settings closed"]

    async def test_a_cancelled_wait_ends_the_start(self) -> None:
        """Where `running` is cancelled as it waits, what starts is cancelled too."""
        started = Started()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), running(started.app):
                pytest.fail("it started")
        assert started.order == ["model begun", "settings closed"]

    def test_a_test_client_waits_as_any_client(self) -> None:
        """Requests of FastAPI's test client wait for what they need."""
        app = FastAPI(lifespan=lifespan(start="background"))

        @scoped("app")
        async def slow() -> str:
            await asyncio.sleep(0.05)
            return "slow"

        @app.get("/")
        async def index(slow: Annotated[str, Depends(slow)]) -> str:
            return slow

        with TestClient(app) as client:
            assert client.get("/").json() == "slow"

    @pytest.mark.parametrize("options", [{"start": "later"}, {"wait": -1}, {"wait": float("inf")}])
    async def test_what_is_no_way_to_start_is_refused(self, options: dict[str, Any]) -> None:
        """Another word, or a wait that is no number of seconds, is refused at the start."""
        with pytest.raises(DeclarationError, match=r"is neither|is no number of seconds"):
            async with running(FastAPI(lifespan=lifespan(**options))):
                pass

    async def test_the_log_has_the_seconds(self, caplog: pytest.LogCaptureFixture) -> None:
        """What became ready, and when all was, stands in the log as ever."""
        caplog.set_level(logging.INFO, "tenure")
        started = Started()
        started.let.set()
        async with running(started.app):
            pass
        assert "model ready in" in caplog.text
        assert "resources ready in" in caplog.text
