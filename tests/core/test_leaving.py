"""A client that leaves ends the work that is done for it, where that was asked for, and nothing else."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from threading import Event as ThreadEvent
from typing import Annotated, Any

import pytest
from anyio import CancelScope
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient

from tenure import cancel_on_disconnect, lifespan, running, scoped
from tenure.errors import UnsupportedFastAPI

CANCELS = [Depends(cancel_on_disconnect)]
DEADLINE = 10

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Visit:
    """A request as a server makes it, of a client that can leave; `repeats` is whether it says so to all who ask."""

    def __init__(
        self, app: FastAPI, path: str = "/", *, body: tuple[bytes, ...] = (b"",), repeats: bool = True
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self.asked = 0
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._has_left = False
        self._repeats = repeats
        self._is_asked = False
        for i, part in enumerate(body, start=1):
            self.send_part(part, more=i < len(body))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("client", 1),
            "server": ("server", 80),
            "scheme": "http",
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def send_part(self, part: bytes, *, more: bool) -> None:
        """Send a part of the request's body."""
        self._messages.put_nowait({"type": "http.request", "body": part, "more_body": more})

    def leave(self) -> None:
        """Close the connection."""
        self._has_left = True
        self._messages.put_nowait({"type": "http.disconnect"})

    async def ended(self) -> None:
        """Wait until the app has done with the request."""
        await asyncio.wait_for(self.task, DEADLINE)

    @property
    def status(self) -> int:
        """The status that the app has answered with."""
        return int(self.sent[0]["status"])

    @property
    def answer(self) -> bytes:
        """The body that the app has answered with."""
        return b"".join(message.get("body", b"") for message in self.sent)

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        assert not self._is_asked, "two ask at the same time"
        if self._has_left and self._repeats and self._messages.empty():
            return {"type": "http.disconnect"}
        self._is_asked = True
        try:
            return await self._messages.get()
        except asyncio.CancelledError:
            await turns()  # as below a middleware, which has to end tasks of its own
            raise
        finally:
            self._is_asked = False

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


async def logged(entry: str) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + DEADLINE
    while entry not in log:
        assert time.monotonic() < deadline, log
        await asyncio.sleep(0)  # so that it is seen before anything follows


async def turns(count: int = 20) -> None:
    """Let all that can go on without an event go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def wait() -> None:
    """Wait for as long as nobody cancels it, and say how it ended."""
    log.append("waits")
    try:
        await asyncio.Event().wait()
    except BaseException as error:
        log.append(type(error).__name__)
        raise


async def wait_and_clean_up() -> None:
    """Wait for as long as nobody cancels it, and wait once more to put things in order."""
    try:
        await wait()
    finally:
        await turns()
        log.append("cleaned up")


@scoped("app")
async def shared() -> str:
    """Give what all requests share, so that the routes that take it are bound."""
    return "shared"


@scoped("function")
async def transaction(shared: Annotated[str, Depends(shared)]) -> AsyncIterator[str]:
    """Commit or roll back, each of which takes a while, and is told of when it is done."""
    try:
        yield shared
    except BaseException as error:
        log.append(f"rolls back on {type(error).__name__}")
        await turns()
        log.append("rolled back")
        raise
    log.append("commits")
    await turns()
    log.append("committed")


@scoped("request")
async def visit() -> AsyncIterator[None]:
    """Say how the request ended."""
    try:
        yield
    except HTTPException as error:
        log.append(f"request ended with {error.status_code}")
        await turns()
        log.append("request closed")
        raise


Transaction = Annotated[str, Depends(transaction)]


def one_route(handler: Callable[..., Any], **options: Any) -> FastAPI:
    """Make an app of one route that is cancelled when its client leaves."""
    app = FastAPI()
    app.post("/", dependencies=CANCELS, **options)(handler)
    return app


@pytest.fixture(params=["on", "off"])
def _binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENURE_BINDING", request.param)


@pytest.mark.usefixtures("_binding")
async def test_a_handler_is_cancelled_and_what_it_held_is_closed() -> None:
    """Bound or not, the handler is cancelled; its dependencies end in reverse, undisturbed; outwards goes a 499."""
    app = FastAPI(lifespan=lifespan)

    @app.post("/", dependencies=CANCELS)
    async def handler(visit: Annotated[None, Depends(visit)], transaction: Transaction) -> None:
        assert transaction == "shared"
        await wait()

    async with running(app):
        client = Visit(app)
        await logged("waits")
        client.leave()
        await client.ended()
    assert log == [
        "waits",
        "CancelledError",
        "rolls back on CancelledError",
        "rolled back",
        "request ended with 499",
        "request closed",
    ]
    assert client.status == 499


def of_a_route() -> FastAPI:
    """Ask for it by a route."""
    return one_route(wait_and_clean_up)


def of_a_router() -> FastAPI:
    """Ask for it by a router."""
    app, router = FastAPI(), APIRouter(dependencies=CANCELS)
    router.post("/")(wait_and_clean_up)
    app.include_router(router)
    return app


def of_an_app() -> FastAPI:
    """Ask for it by the app."""
    app = FastAPI(dependencies=CANCELS)
    app.post("/")(wait_and_clean_up)
    return app


def by_a_parameter() -> FastAPI:
    """Ask for it by a parameter."""
    app = FastAPI()

    @app.post("/")
    async def handler(_: Annotated[None, Depends(cancel_on_disconnect)]) -> None:
        await wait_and_clean_up()

    return app


def twice() -> FastAPI:
    """Ask for it by the app, and by a route in another way."""
    app = FastAPI(dependencies=CANCELS)
    app.post("/", dependencies=[Depends(cancel_on_disconnect, scope="function", use_cache=False)])(wait_and_clean_up)
    return app


def below_a_middleware() -> FastAPI:
    """Ask for it below a middleware that has a task of its own for the request."""
    app = one_route(wait_and_clean_up)

    @app.middleware("http")
    async def middleware(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    return app


@pytest.mark.parametrize("make", [of_a_route, of_a_router, of_an_app, by_a_parameter, twice, below_a_middleware])
async def test_it_is_asked_for_as_any_dependency(make: Callable[[], FastAPI]) -> None:
    """
    A route, a router, an app or a parameter may ask for it, with no lifespan of tenure's.

    The handler is cancelled once: what it awaits thereafter, to put things in order, is not cancelled.
    """
    client = Visit(make())
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["waits", "CancelledError", "cleaned up"]
    assert client.status == 499


async def test_nothing_changes_for_those_who_do_not_ask() -> None:
    """Without it, a handler whose client has left runs to its end, and the client is not watched."""
    app = FastAPI()
    goes_on = asyncio.Event()

    @app.post("/")
    async def handler() -> str:
        log.append("waits")
        await goes_on.wait()
        return "done"

    client = Visit(app)
    await logged("waits")
    client.leave()
    await turns()
    goes_on.set()
    await client.ended()
    assert (client.status, client.answer, client.asked) == (200, b'"done"', 0)


async def test_a_client_that_waits_in_a_queue_leaves_it() -> None:
    """A dependency that comes after it is cancelled while it opens, as one that waits for a connection."""

    async def queue() -> AsyncIterator[None]:
        await wait()
        yield

    async def handler(queue: Annotated[None, Depends(queue)]) -> None:
        log.append("handler")

    client = Visit(one_route(handler))
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["waits", "CancelledError"]


async def test_what_comes_before_it_is_not_cancelled() -> None:
    """A dependency that comes before it opens undisturbed; it is after it that the request ends."""
    goes_on = asyncio.Event()

    async def before() -> None:
        log.append("waits")
        await goes_on.wait()
        log.append("before is done")

    app = FastAPI(dependencies=[Depends(before)])
    app.post("/", dependencies=CANCELS)(wait)
    client = Visit(app)
    await logged("waits")
    client.leave()
    await turns()
    goes_on.set()
    await client.ended()
    assert log == ["waits", "before is done", "waits", "CancelledError"]


@pytest.mark.usefixtures("_binding")
async def test_a_commit_that_has_begun_is_not_torn() -> None:
    """A client that leaves while a function-scoped dependency is closed does not disturb it; the answer stands."""
    app = FastAPI(lifespan=lifespan)

    @app.post("/")
    async def handler(transaction: Transaction, _: Annotated[None, Depends(cancel_on_disconnect)]) -> str:
        return transaction

    @app.post("/first", dependencies=CANCELS)
    async def first(transaction: Transaction) -> str:
        return transaction

    @app.post("/between", dependencies=[Depends(visit), *CANCELS])
    async def between(transaction: Transaction) -> str:
        return transaction

    async with running(app):
        for path in ("/", "/first", "/between"):
            client = Visit(app, path)
            await logged("commits")
            client.leave()
            await client.ended()
            assert log == ["commits", "committed"]
            assert client.answer == b'"shared"'
            log.clear()


async def test_a_handler_that_will_not_be_cancelled_answers() -> None:
    """A handler that catches the cancellation ends as it likes, and its task is not left in a cancelled state."""

    async def handler() -> str:
        with suppress(asyncio.CancelledError):
            await wait()
        return "after all"

    app = one_route(handler)
    pending: list[int] = []

    @app.middleware("http")
    async def middleware(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        pending.extend(task.cancelling() for task in asyncio.all_tasks())
        return response

    client = Visit(app)
    await logged("waits")
    client.leave()
    await client.ended()
    assert client.answer == b'"after all"'
    assert set(pending) == {0}


async def test_a_shield_holds_the_cancellation_back() -> None:
    """Within a shield of AnyIO's the handler goes on; it is cancelled where it waits thereafter."""
    goes_on = asyncio.Event()

    async def handler() -> None:
        with CancelScope(shield=True), CancelScope():
            log.append("shielded")
            await goes_on.wait()
            log.append("done")
        await wait()

    client = Visit(one_route(handler))
    await logged("shielded")
    client.leave()
    await turns()
    goes_on.set()
    await client.ended()
    assert log == ["shielded", "done", "waits", "CancelledError"]


async def test_a_shield_around_the_whole_app_does_not() -> None:
    """A shield that a server or middleware has around all requests is none for a client that leaves."""
    app = one_route(wait)

    async def shielded(scope: Any, receive: Any, send: Any) -> None:
        with CancelScope(shield=True):
            await app(scope, receive, send)

    client = Visit(shielded)  # type: ignore[arg-type] # an app too
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["waits", "CancelledError"]


@pytest.mark.usefixtures("_binding")
async def test_a_handler_in_a_thread_runs_to_its_end() -> None:
    """A `def` handler cannot be cancelled: its connection is not taken away from it, and it commits."""
    app = FastAPI(lifespan=lifespan)
    goes_on = ThreadEvent()

    @app.post("/", dependencies=CANCELS)
    def handler(transaction: Transaction) -> str:
        log.append("waits")
        assert goes_on.wait(DEADLINE)
        log.append("ends")
        return transaction

    async with running(app):
        client = Visit(app)
        await logged("waits")
        client.leave()
        await turns()
        assert log == ["waits"]
        goes_on.set()
        await client.ended()
    assert log == ["waits", "ends", "commits", "committed"]


async def test_the_server_that_cancels_is_obeyed() -> None:
    """A cancellation that is not for the client that left goes on outwards as one, though both come together."""
    for leaves in (False, True):
        client = Visit(one_route(wait))
        await logged("waits")
        if leaves:
            client.leave()
            await asyncio.sleep(0)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.ended()
        assert log == ["waits", "CancelledError"]
        log.clear()


@pytest.mark.parametrize("parts", [(b"a" * 40_000, b"b" * 40_000, b"c"), (b"", b"a", b"b"), (b"a", b"")])
async def test_a_body_that_the_handler_reads_is_whole(parts: tuple[bytes, ...]) -> None:
    """A handler that reads the body by itself, as late as it likes, gets each part in order."""
    read: list[bytes] = []

    async def handler(request: Request) -> None:
        await turns()
        read.extend([part async for part in request.stream()])

    client = Visit(one_route(handler), body=parts)
    await client.ended()
    assert client.status == 200
    assert read == [*filter(None, parts), b""]


async def test_who_has_read_a_body_is_cancelled_as_any() -> None:
    """When a handler has read a large body by itself, its client is watched on."""

    async def handler(request: Request) -> None:
        await turns()
        log.append(f"{len(await request.body())} bytes")
        await wait()

    client = Visit(one_route(handler), body=(b"x" * 40_000,) * 5)
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["200000 bytes", "waits", "CancelledError"]


async def test_a_body_that_fastapi_reads_is_whole() -> None:
    """A handler that takes its body as a parameter is cancelled as any, for FastAPI has read it before."""

    async def handler(body: Annotated[dict[str, int], Body()]) -> None:
        log.append(str(body))
        await wait()

    client = Visit(one_route(handler), body=(b'{"a":', b"1}"))
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["{'a': 1}", "waits", "CancelledError"]


async def test_a_body_that_nobody_reads_is_kept_in_bounds() -> None:
    """Nobody need read a small body for the client to be seen leaving; of a large one, the rest is not asked for."""
    for body in [(b"x" * 10,), (b"x" * 10, b"")]:
        client = Visit(one_route(wait), body=body)
        await logged("waits")
        client.leave()
        await client.ended()
        assert log == ["waits", "CancelledError"]
        log.clear()
    client = Visit(one_route(wait), body=(b"x" * 30_000,) * 1_000)
    await logged("waits")
    await turns(100)
    assert client.asked == 3
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.ended()


async def test_who_waits_for_the_rest_of_a_body_is_cancelled() -> None:
    """A client that leaves in the middle of its upload is as any that leaves, with no error in the server's log."""

    async def handler(request: Request) -> None:
        stream = request.stream()
        log.append((await anext(stream)).decode())
        try:
            await anext(stream)
        except BaseException as error:
            log.append(type(error).__name__)
            raise

    client = Visit(one_route(handler), body=())
    client.send_part(b"first", more=True)
    await logged("first")
    client.leave()
    await client.ended()
    assert log == ["first", "CancelledError"]
    assert client.status == 499


async def test_who_reads_after_the_client_has_left_is_told() -> None:
    """A handler that reads although it was cancelled hears from Starlette that the client has left, each time."""

    async def handler(request: Request) -> None:
        try:
            await wait()
        finally:
            log.append(f"left: {await request.is_disconnected()}")
            await request.body()

    client = Visit(one_route(handler), body=(), repeats=False)
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["waits", "CancelledError", "left: True"]
    assert client.status == 499


async def test_an_error_of_the_server_is_for_who_reads() -> None:
    """What the server raises when it is asked for the body reaches the handler that reads, and no other."""

    async def reads(request: Request) -> None:
        await request.body()

    async def does_not() -> str:
        await turns()
        return "answer"

    async def broken() -> Any:
        msg = "too large"
        raise OSError(msg)

    def behind(app: FastAPI) -> Any:
        return lambda scope, _, send: app(scope, broken, send)

    with pytest.raises(OSError, match="too large"):
        await Visit(behind(one_route(reads))).ended()
    client = Visit(behind(one_route(does_not)))
    await client.ended()
    assert client.answer == b'"answer"'


async def test_a_server_that_repeats_the_body_is_not_asked_for_ever() -> None:
    """A server, such as a test's, that says at each call that the body is whole is asked a few times only."""
    asked = 0

    async def repeats() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"", "more_body": False}

    async def handler() -> str:
        await turns(100)
        return "answer"

    app = one_route(handler)
    client = Visit(lambda scope, _, send: app(scope, repeats, send))  # type: ignore[arg-type,return-value] # an app too
    await client.ended()
    assert client.answer == b'"answer"'
    assert asked == 2


async def test_is_disconnected_tells_the_truth() -> None:
    """`request.is_disconnected` may be asked meanwhile: it says no as long as the client stays."""
    answers: list[bool] = []

    async def handler(request: Request) -> None:
        answers.extend([await request.is_disconnected() for _ in range(50)])
        await wait()

    client = Visit(one_route(handler))
    await logged("waits")
    client.leave()
    await client.ended()
    assert answers == [False] * 50
    assert log == ["waits", "CancelledError"]


async def test_a_stream_is_left_to_starlette() -> None:
    """When the answer begins the watch has ended: it is Starlette that hears of the client, and stops the stream."""

    async def stream() -> AsyncIterator[str]:
        yield "first"
        await wait()

    async def handler() -> StreamingResponse:
        await turns()
        return StreamingResponse(stream())

    client = Visit(one_route(handler))
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["waits", "CancelledError"]
    assert (client.status, client.answer) == (200, b"first")


@pytest.mark.parametrize("turn", range(12))
async def test_a_handler_is_cancelled_or_its_background_task_is_done(turn: int) -> None:
    """Whenever the client leaves, either the handler is cancelled or what follows its answer is done."""
    client: Visit

    async def later(request: Request) -> None:
        await turns(50)
        assert await request.body() == b"read late"
        log.append("done")

    async def handler(request: Request, tasks: BackgroundTasks) -> None:
        client.leave()
        tasks.add_task(later, request)
        await turns(turn)

    client = Visit(one_route(handler), body=(b"read", b" late"))
    await client.ended()
    assert (client.status, log) in ((499, []), (200, ["done"]))


async def test_a_background_task_is_not_cancelled() -> None:
    """What is done after the answer is done although the client has left by then, or while a thread was at work."""
    goes_on = ThreadEvent()

    async def later() -> None:
        log.append("begins")
        await asyncio.sleep(0.05)
        log.append("done")

    async def answers(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)

    def in_a_thread(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)
        log.append("in a thread")
        assert goes_on.wait(DEADLINE)

    client = Visit(one_route(answers))
    await logged("begins")
    client.leave()
    await client.ended()
    assert log == ["begins", "done"]
    client = Visit(one_route(in_a_thread))
    await logged("in a thread")
    client.leave()
    await turns()
    goes_on.set()
    await client.ended()
    assert log == ["begins", "done", "in a thread", "begins", "done"]


async def test_who_reads_the_body_after_the_answer_gets_it() -> None:
    """A background task may read on where nobody did before, and is not cancelled for the client that leaves then."""

    async def later(request: Request) -> None:
        parts = request.stream()
        log.append((await anext(parts)).decode())
        log.append((await anext(parts)).decode())
        await asyncio.sleep(0.05)
        log.append("done")

    async def handler(request: Request, tasks: BackgroundTasks) -> None:
        tasks.add_task(later, request)

    client = Visit(one_route(handler), body=())
    client.send_part(b"first", more=True)
    await logged("first")
    client.send_part(b"second", more=False)
    await logged("second")
    client.leave()
    await client.ended()
    assert log == ["first", "second", "done"]


async def test_a_handler_of_499_hears_of_it() -> None:
    """An app can count the clients that left, by an exception handler for the status."""
    app = one_route(wait)

    @app.exception_handler(499)
    async def left(request: Request, error: Exception) -> JSONResponse:
        log.append(f"{request.url.path} {type(error.__cause__).__name__}")
        return JSONResponse({}, status_code=499)

    client = Visit(app)
    await logged("waits")
    client.leave()
    await client.ended()
    assert log == ["waits", "CancelledError", "/ CancelledError"]


async def test_an_error_of_the_handler_stays_what_it_is() -> None:
    """A handler that fails while it cleans up is not silenced: its error goes on outwards."""

    async def handler() -> None:
        try:
            await wait()
        finally:
            msg = "a mistake"
            raise OSError(msg)

    client = Visit(one_route(handler))
    await logged("waits")
    client.leave()
    with pytest.raises(OSError, match="a mistake"):
        await client.ended()


def test_a_websocket_is_let_alone() -> None:
    """An app that asks for it may have websockets, whose handlers hear of the client that leaves by themselves."""
    app = FastAPI(dependencies=CANCELS)

    @app.websocket("/")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    with TestClient(app) as client, client.websocket_connect("/") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"


async def test_it_says_where_fastapi_is_not_as_known() -> None:
    """Where FastAPI keeps no exit stack for the function, it is named with the cure."""
    with pytest.raises(UnsupportedFastAPI, match="`cancel_on_disconnect` has nowhere to be closed"):
        await cancel_on_disconnect(Request({"type": "http"}))


async def test_a_request_leaves_no_cycles_behind() -> None:
    """All that watching a client makes is freed as the request ends, without the garbage collector."""

    async def handler() -> None:
        log.append("handled")

    app = one_route(handler)
    gc.collect()
    gc.disable()
    try:
        for requests in (1, 100):
            gc.collect()
            for _ in range(requests):
                await Visit(app).ended()
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert log == ["handled"] * 101
