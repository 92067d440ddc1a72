"""`shutting_down`: who is told of the end of an app, and what becomes of what it still serves."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Annotated, Any

import anyio.to_thread
import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware

from tenure import ShuttingDown, lifespan, override, running, scoped, shutting_down
from tenure.errors import DeclarationError
from tenure.fastapi import serving

Stop = Annotated[ShuttingDown, Depends(shutting_down)]


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """Make a client of an app in this event loop; what fails there is answered, not raised."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://app")


async def forever() -> AsyncIterator[int]:
    """Give one item, and then nothing more."""
    yield 1
    await asyncio.Event().wait()


def app_with(handler: Callable[..., Any], *, grace: float) -> tuple[FastAPI, list[str]]:
    """Make an app with one route, which says in what order its own lifespan and its resource end."""
    order: list[str] = []

    @scoped("app")
    async def pool() -> AsyncIterator[str]:
        yield "pool"
        order.append("pool closed")

    @asynccontextmanager
    async def mine(_: FastAPI) -> AsyncIterator[None]:
        yield
        order.append("mine ended")

    app = FastAPI(lifespan=lifespan(mine, also=[pool], grace=grace))
    app.get("/items/{item}")(handler)
    return app, order


class TestShuttingDown:
    """What is injected, by itself."""

    async def test_a_wait_ends_when_it_begins(self) -> None:
        """It is not set until it begins, and stays set; beginning twice is beginning once."""
        stop = ShuttingDown()
        waiting = asyncio.create_task(stop.wait())
        await asyncio.sleep(0)
        assert not stop.is_set()
        assert not waiting.done()
        stop.begin()
        stop.begin()
        await waiting
        await stop.wait()
        assert stop.is_set()

    async def test_what_waits_for_an_item_ends(self) -> None:
        """An iteration that waits for its source ends when the shutdown begins, and closes the source."""
        stop, got, closed = ShuttingDown(), asyncio.Event(), []

        async def source() -> AsyncIterator[int]:
            try:
                async for item in forever():
                    yield item
                    got.set()
            finally:
                await asyncio.sleep(0)  # cleaning up is not cancelled in its turn
                closed.append(True)

        async def consumer() -> list[int]:
            return [item async for item in stop.ends(source())]

        task = asyncio.create_task(consumer())
        await got.wait()
        stop.begin()
        assert await task == [1]
        assert closed == [True]
        assert task.cancelling() == 0

    async def test_it_gives_all_of_a_source_that_ends(self) -> None:
        """Where no shutdown begins, it gives what the source gives; a source need not be a generator."""

        class Countdown:
            left = 3

            def __aiter__(self) -> "Countdown":
                return self

            async def __anext__(self) -> int:
                self.left -= 1
                if self.left < 0:
                    raise StopAsyncIteration
                return self.left

        assert [item async for item in ShuttingDown().ends(Countdown())] == [2, 1, 0]

    async def test_it_takes_nothing_once_it_has_begun(self) -> None:
        """A source is not asked for anything after the shutdown has begun, not even for the next item."""
        stop, closed = ShuttingDown(), []

        async def source() -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        async for _ in stop.ends(source()):
            stop.begin()
        assert closed == [True]
        assert [item async for item in stop.ends(forever())] == []

    async def test_a_last_item_is_given_on(self) -> None:
        """What a source gives although its wait is cancelled is given on, and is the last."""
        stop, waiting = ShuttingDown(), asyncio.Event()

        async def source() -> AsyncIterator[str]:
            with suppress(asyncio.CancelledError):
                waiting.set()
                await asyncio.Event().wait()
            yield "last"
            yield "too late"

        async def consumer() -> list[str]:
            return [item async for item in stop.ends(source())]

        task = asyncio.create_task(consumer())
        await waiting.wait()
        stop.begin()
        assert await task == ["last"]

    async def test_errors_of_a_source_are_raised(self) -> None:
        """A source's own `TimeoutError` is not taken for the end."""

        async def source() -> AsyncIterator[int]:
            yield 1
            raise TimeoutError

        with pytest.raises(TimeoutError):
            _ = [item async for item in ShuttingDown().ends(source())]

    async def test_a_cancelled_consumer_is_cancelled(self) -> None:
        """A cancellation from elsewhere goes through, also when the shutdown begins at the same time."""
        stop = ShuttingDown()

        async def consumer() -> list[int]:
            return [item async for item in stop.ends(forever())]

        task = asyncio.create_task(consumer())
        await asyncio.sleep(0)
        task.cancel()
        stop.begin()
        with pytest.raises(asyncio.CancelledError):
            await task


class TestInjected:
    """Where it is injected, in an app without a server."""

    async def test_everywhere_in_an_app_it_is_one(self) -> None:
        """Handlers, websockets, mounted apps, resources and the app's own lifespan have the same one."""
        seen: list[ShuttingDown] = []

        @scoped("app")
        async def beat(stop: Stop) -> None:
            seen.append(stop)

        @asynccontextmanager
        async def mine(_: FastAPI, stop: Stop) -> AsyncIterator[None]:
            seen.append(stop)
            yield

        app, mounted = FastAPI(lifespan=lifespan(mine, also=[beat])), FastAPI()
        app.mount("/mounted", mounted)

        @app.get("/")
        @mounted.get("/")
        async def index(stop: Stop) -> bool:
            seen.append(stop)
            return stop.is_set()

        @app.get("/thread")
        def thread(stop: Stop) -> bool:
            seen.append(stop)
            return stop.is_set()

        async with running(app) as scope, client_of(app) as client:
            seen.append(await scope.get(shutting_down))
            for path in ("/", "/mounted/", "/thread"):
                assert (await client.get(path)).json() is False
        assert len(seen) == 6
        assert set(map(id, seen)) == {id(seen[0])}
        assert seen[0].is_set()

    async def test_two_apps_do_not_meet_in_it(self) -> None:
        """The end of one app is not the end of another in its process; a later run of the same app has its own."""
        apps = [FastAPI(lifespan=lifespan(also=[shutting_down])) for _ in range(2)]
        async with running(apps[0]) as outer:
            stop = await outer.get(shutting_down)
            for _ in range(2):
                async with running(apps[1]) as inner:
                    other = await inner.get(shutting_down)
                    assert not other.is_set()
                assert other.is_set()
            assert not stop.is_set()

    async def test_it_is_told_before_anything_closes(self) -> None:
        """When the lifespan ends, a task of a resource is told first, so that the close may wait for the task."""
        order: list[str] = []

        @scoped("app")
        async def beat(stop: Stop) -> AsyncIterator[None]:
            async def told() -> None:
                await stop.wait()
                order.append("told")

            task = asyncio.create_task(told())
            yield
            await task
            order.append("closed")

        async with running(also=[beat]):
            assert order == []
        assert order == ["told", "closed"]

    async def test_a_websocket_may_say_goodbye(self) -> None:
        """A websocket handler that waits for it sends a last message, within the grace."""
        app = FastAPI(lifespan=lifespan)
        sent: list[Any] = []
        accepted = asyncio.Event()

        @app.websocket("/")
        async def socket(websocket: WebSocket, stop: Stop) -> None:
            await websocket.accept()
            await stop.wait()
            await websocket.send_text("goodbye")
            await websocket.close()

        async def send(message: Any) -> None:
            sent.append(message)
            accepted.set()

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [], "subprotocols": []}
        async with running(app):
            task = asyncio.create_task(app(scope, receive, send))
            await accepted.wait()
        await task
        assert [message.get("text") for message in sent] == [None, "goodbye", None]

    async def test_a_test_replaces_it(self) -> None:
        """It is overridden as any dependency is, so that a stream is tested to its end without a server."""
        app, stop = FastAPI(lifespan=lifespan), ShuttingDown()

        @app.get("/")
        async def stream(stop: Stop) -> StreamingResponse:
            async def items() -> AsyncIterator[str]:
                async for item in stop.ends(forever()):
                    yield f"{item}"
                yield "goodbye"

            asyncio.get_running_loop().call_soon(stop.begin)
            return StreamingResponse(items())

        with override(app, {shutting_down: lambda: stop}):
            async with running(app), client_of(app) as client:
                assert (await client.get("/")).text.endswith("goodbye")

    @pytest.mark.parametrize("grace", [-1, float("nan"), float("inf")])
    async def test_a_grace_is_a_number_of_seconds(self, grace: float) -> None:
        """One below 0, or without end, is refused at the start."""
        app = FastAPI(lifespan=lifespan(grace=grace))
        with pytest.raises(DeclarationError, match="is no number of seconds"):
            async with running(app):
                pass


class TestGrace:
    """What an app serves when its lifespan ends."""

    async def test_what_ends_in_time_is_answered(self) -> None:
        """A request that ends within the grace is answered before anything is closed; nothing waits longer."""
        began = asyncio.Event()

        async def handler(stop: Stop) -> str:
            began.set()
            await stop.wait()
            await asyncio.sleep(0.01)
            order.append("answered")
            return "done"

        app, order = app_with(handler, grace=500)
        async with client_of(app) as client:
            async with running(app):
                request = asyncio.create_task(client.get("/items/1"))
                await began.wait()
            assert (await request).json() == "done"
        assert order == ["answered", "mine ended", "pool closed"]

    @pytest.mark.parametrize("with_middleware", [False, True])
    async def test_what_goes_on_is_cancelled(self, caplog: pytest.LogCaptureFixture, *, with_middleware: bool) -> None:
        """Requests that go on are cancelled after the grace, through middleware too, and then the app closes."""
        began: list[str] = []

        async def handler(item: str) -> None:
            began.append(item)
            try:
                await asyncio.Event().wait()
            finally:
                order.append("cancelled")

        async def dispatch(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        app, order = app_with(handler, grace=0.05)
        if with_middleware:
            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        async with client_of(app) as client:
            async with running(app):
                requests = [asyncio.create_task(client.get(f"/items/{number}")) for number in range(3)]
                while len(began) < 3:
                    await asyncio.sleep(0)
            assert all(request.done() for request in requests)
            await asyncio.gather(*requests, return_exceptions=True)
        assert order == ["cancelled"] * 3 + ["mine ended", "pool closed"]
        assert "cancelled, as the app closes (grace: 0.05 s): 3 x GET /items/{item}" in caplog.text

    @pytest.mark.parametrize("layers", [0, 2])
    async def test_what_swallows_its_cancellation_is_left_behind(
        self, caplog: pytest.LogCaptureFixture, layers: int
    ) -> None:
        """It is named with its route and where it stands, in a task of middleware too, and the app closes."""
        began, end = asyncio.Event(), asyncio.Event()

        async def swallow() -> AsyncIterator[None]:
            while not end.is_set():
                began.set()
                with suppress(asyncio.CancelledError):
                    await end.wait()
            yield

        async def handler() -> None:
            async for _ in swallow():
                pass

        async def dispatch(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        app, order = app_with(handler, grace=0)
        for _ in range(layers):
            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        async with client_of(app) as client:
            async with running(app):
                request = asyncio.create_task(client.get("/items/1"))
                await began.wait()
            assert order == ["mine ended", "pool closed"]
            assert not request.done()
            end.set()
            await asyncio.gather(request, return_exceptions=True)
        place = f"tests/core/test_shutting_down.py:{swallow.__code__.co_firstlineno + 4}"
        assert f"GET /items/{{item}} did not end after it was cancelled, and was left behind at {place}" in caplog.text

    async def test_what_runs_in_a_thread_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        """Its request ends, the thread goes on; the log says which route it is, and where it is."""
        began, end = threading.Event(), threading.Event()

        def handler() -> None:
            began.set()
            end.wait()

        app, order = app_with(handler, grace=0)
        async with client_of(app) as client:
            async with running(app):
                request = asyncio.create_task(client.get("/items/1"))
                await anyio.to_thread.run_sync(began.wait)
            end.set()
            assert order == ["mine ended", "pool closed"]
            await asyncio.gather(request, return_exceptions=True)
        place = f"tests/core/test_shutting_down.py:{handler.__code__.co_firstlineno + 2}"
        assert f"GET /items/{{item}} runs in a thread, which cannot be cancelled, at {place}" in caplog.text

    async def test_what_mounted_apps_serve_is_the_apps(self, caplog: pytest.LogCaptureFixture) -> None:
        """A request to a mounted app has the same end, and is named with its whole path."""
        began, mounted = asyncio.Event(), FastAPI()
        app, _ = app_with(lambda: None, grace=0)
        app.mount("/mounted", mounted)

        @mounted.get("/items/{item}")
        async def handler(item: str) -> None:
            began.set()
            await asyncio.Event().wait()

        async with client_of(app) as client:
            async with running(app):
                request = asyncio.create_task(client.get("/mounted/items/1"))
                await began.wait()
            await asyncio.gather(request, return_exceptions=True)
        assert "cancelled, as the app closes (grace: 0 s): 1 x GET /mounted/items/{item}" in caplog.text

    async def test_what_another_app_serves_goes_on(self) -> None:
        """The end of one app cancels nothing of another in its process."""
        began, end = asyncio.Event(), asyncio.Event()

        async def handler() -> str:
            began.set()
            await end.wait()
            return "done"

        app, _ = app_with(handler, grace=0)
        async with running(app), client_of(app) as client:
            async with running(app_with(handler, grace=0)[0]):
                request = asyncio.create_task(client.get("/items/1"))
                await began.wait()
            end.set()
            assert (await request).json() == "done"

    async def test_a_lifespan_that_is_cancelled_has_no_grace(self) -> None:
        """Where the lifespan's own task is cancelled, as on a second Ctrl-C, requests are cancelled at once."""
        began, serving_now = asyncio.Event(), asyncio.Event()

        async def handler() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                order.append("cancelled")

        async def serve() -> None:
            async with running(app):
                serving_now.set()
                await asyncio.Event().wait()

        app, order = app_with(handler, grace=500)
        async with client_of(app) as client:
            server = asyncio.create_task(serve())
            await serving_now.wait()
            request = asyncio.create_task(client.get("/items/1"))
            await began.wait()
            server.cancel()
            with pytest.raises(asyncio.CancelledError):
                await server
            await asyncio.gather(request, return_exceptions=True)
        assert order == ["cancelled", "pool closed"]

    async def test_what_a_server_has_cancelled_cleans_up(self, caplog: pytest.LogCaptureFixture) -> None:
        """A request that was cancelled before the lifespan ends is not cancelled again, nor given the grace."""
        began, cleaning = asyncio.Event(), asyncio.Event()

        async def handler() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await asyncio.sleep(0.1)
                order.append("cleaned up")

        app, order = app_with(handler, grace=500)
        async with client_of(app) as client:
            async with running(app):
                request = asyncio.create_task(client.get("/items/1"))
                await began.wait()
                request.cancel()
                await cleaning.wait()
            await asyncio.gather(request, return_exceptions=True)
        assert order == ["cleaned up", "mine ended", "pool closed"]
        assert "cancelled" not in caplog.text

    async def test_a_request_that_runs_the_app_itself_does_not_wait_for_itself(self) -> None:
        """A handler that runs its own app once more, as a test of the app in the app may, comes to its end."""
        app, order = app_with(lambda: None, grace=500)

        @app.get("/again")
        async def again() -> str:
            async with running(app):
                return "done"

        async with running(app), client_of(app) as client:
            assert (await client.get("/again")).json() == "done"
            assert order == ["mine ended", "pool closed"]

    async def test_an_unknown_starlette_is_said(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where Starlette calls apps in another way, the start says that nothing is cancelled; all else works."""
        monkeypatch.setattr(serving, "_ENTRY", Starlette.__init__.__code__)
        app, order = app_with(lambda: "done", grace=0)
        async with running(app), client_of(app) as client:
            assert (await client.get("/items/1")).json() == "done"
        assert "requests are not found in this version of Starlette: the shutdown cancels none" in caplog.text
        assert order == ["mine ended", "pool closed"]


def told_app(**options: Any) -> tuple[FastAPI, list[ShuttingDown]]:
    """Make an app that hands out what tells it."""
    told: list[ShuttingDown] = []

    @asynccontextmanager
    async def mine(_: FastAPI, stop: Stop) -> AsyncIterator[None]:
        told.append(stop)
        yield

    return FastAPI(lifespan=lifespan(mine, **options)), told


@contextmanager
def handled(signum: int, handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Have a signal handled, as a server has."""
    before = signal.signal(signum, handler)
    try:
        yield
        assert signal.getsignal(signum) is handler
    finally:
        signal.signal(signum, before)


async def serve(app: FastAPI, told: list[str], ended: asyncio.Event) -> None:
    """Run an app's lifespan as a server does that is told to end at once, and ends it when the event is set."""

    async def messages() -> AsyncIterator[dict[str, str]]:
        yield {"type": "lifespan.startup"}
        await ended.wait()
        yield {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        told.append(message["type"])
        if message["type"] == "lifespan.startup.complete":
            signal.raise_signal(signal.SIGTERM)

    await app({"type": "lifespan", "state": {}}, aiter(messages()).__anext__, send)


class TestSignals:
    """How an app learns of the end of its server."""

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    async def test_it_is_told_by_the_servers_signal(self, signum: int) -> None:
        """A signal begins the shutdown, the server's handler gets each of them, and has its place back at the end."""
        app, told = told_app()
        got: list[int] = []
        with handled(signum, lambda number, _: got.append(number)):
            async with running(app):
                signal.raise_signal(signum)
                await told[0].wait()
                signal.raise_signal(signum)
                assert got == [signum, signum]
            signal.raise_signal(signum)
        assert got == [signum] * 3

    def test_an_event_loops_own_handler_goes_on(self) -> None:
        """What the event loop was to call on a signal is called."""

        async def serve() -> None:
            app, told = told_app()
            loop, got = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, got.set)
            async with running(app):
                signal.raise_signal(signal.SIGTERM)
                await told[0].wait()
                await got.wait()
                got.clear()
            signal.raise_signal(signal.SIGTERM)
            await got.wait()
            loop.remove_signal_handler(signal.SIGTERM)

        asyncio.run(serve())
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    async def test_what_nothing_handles_is_left_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without a server, SIGTERM keeps ending the process; that the app is not told by it is said, for debugging."""
        caplog.set_level(logging.DEBUG, "tenure")
        app, _ = told_app()
        with handled(signal.SIGINT, signal.default_int_handler):
            async with running(app):
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
                assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert "nothing here handles SIGTERM" in caplog.text

    def test_outside_of_the_main_thread_the_lifespan_tells(self) -> None:
        """Where signals cannot be had, as in a test client's thread, the end of the lifespan begins the shutdown."""
        app, told = told_app()
        with handled(signal.SIGTERM, lambda *_: None), TestClient(app):
            signal.raise_signal(signal.SIGTERM)
            assert not told[0].is_set()
        assert told[0].is_set()

    async def test_a_server_that_waits_for_ever_is_not_waited_for(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where a server does not end the lifespan, the app closes by itself, and ends the lifespan in good order."""
        app, order = app_with(lambda: None, grace=0)
        with handled(signal.SIGTERM, lambda *_: None):
            await serve(app, order, ended=asyncio.Event())
        ends = ["mine ended", "pool closed"]
        assert order == ["lifespan.startup.complete", *ends, "lifespan.shutdown.complete"]
        assert "the server still waits for its clients: the app closes without it" in caplog.text

    async def test_a_close_may_take_longer_than_the_grace(self, caplog: pytest.LogCaptureFixture) -> None:
        """Once the server has ended the lifespan, what closes has its own time."""
        order, ended = [], asyncio.Event()

        @scoped("app")
        async def slow(stop: Stop) -> AsyncIterator[None]:
            task = asyncio.create_task(stop.wait())
            task.add_done_callback(lambda _: ended.set())
            yield
            await asyncio.sleep(2)  # longer than a server would have got
            order.append("closed")

        with handled(signal.SIGTERM, lambda *_: None):
            await serve(FastAPI(lifespan=lifespan(also=[slow], grace=0)), order, ended)
        assert order == ["lifespan.startup.complete", "closed", "lifespan.shutdown.complete"]
        assert "without it" not in caplog.text

    async def test_what_runs_without_a_server_is_not_ended(self) -> None:
        """A script that handles the signal itself is not cut short, however long it takes to end."""
        app, told = told_app(grace=0)
        ended: list[bool] = []
        with handled(signal.SIGTERM, lambda *_: None):
            async with running(app):
                signal.raise_signal(signal.SIGTERM)
                await told[0].wait()
                await asyncio.sleep(2)  # longer than a server would have got
                ended.append(True)
        assert ended == [True]

    @pytest.mark.parametrize("first_to_end", [0, 1])
    async def test_apps_of_a_process_end_in_any_order(self, first_to_end: int) -> None:
        """Each of two apps is told, whichever began first; one that has ended is not, and nothing of them stays."""
        apps = [told_app() for _ in range(2)]
        got: list[int] = []
        with handled(signal.SIGTERM, lambda number, _: got.append(number)):
            runs = [running(app) for app, _ in apps]
            for run in runs:
                await run.__aenter__()
            await runs[first_to_end].__aexit__(None, None, None)
            left = apps[1 - first_to_end][1][0]
            assert not left.is_set()
            signal.raise_signal(signal.SIGTERM)
            await left.wait()
            await runs[1 - first_to_end].__aexit__(None, None, None)
        assert len(got) == 1

    async def test_a_forked_child_does_not_tell_its_parent(self) -> None:
        """A child that a handler forks has the parent's handlers; a signal to it is none to the parent."""
        app, told = told_app()
        with handled(signal.SIGTERM, lambda *_: os._exit(7)):
            async with running(app):
                child = os.fork()
                if not child:
                    signal.raise_signal(signal.SIGTERM)
                _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
                await asyncio.sleep(0)
                assert os.waitstatus_to_exitcode(status) == 7
                assert not told[0].is_set()

    async def test_a_handler_that_comes_later_keeps_its_place(self) -> None:
        """A handler set while the app runs is not taken away by the app's end."""

        def later(*_: Any) -> None:
            """Be another's handler."""

        app, _ = told_app()
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            async with running(app):
                signal.signal(signal.SIGTERM, later)
            assert signal.getsignal(signal.SIGTERM) is later
        finally:
            signal.signal(signal.SIGTERM, before)
