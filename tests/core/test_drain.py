"""`drain_delay`: SIGTERM is held back while balancers notice that the app is to get no more requests."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from types import FrameType
from typing import Annotated, Any

import anyio.to_thread
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from tenure import ShuttingDown, lifespan, running, scoped, shutting_down
from tenure.errors import DeclarationError
from tenure.fastapi import draining
from tenure.ops import ops_router
from tenure.signals import noticed
from tests.core.test_shutting_down import handled

Stop = Annotated[ShuttingDown, Depends(shutting_down)]

LONG = 600
"""Seconds of a drain that no test waits for."""


def drained_app(delay: float, **options: Any) -> FastAPI:
    """Make an app that answers, and says whether it is ready."""
    app = FastAPI(lifespan=lifespan(also=[shutting_down], drain_delay=delay, grace=0, **options))
    app.include_router(ops_router())

    @app.get("/work")
    async def work(stop: Stop) -> bool:
        return stop.is_set()

    return app


async def answers(app: FastAPI) -> tuple[int, bool]:
    """Ask whether an app is ready, and whether it has been told of its end."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return (await client.get("/readyz")).status_code, (await client.get("/work")).json()


class Server:
    """What a server's handler got, and a wait for it."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.told = asyncio.Event()

    def handle(self, signum: int, _: FrameType | None) -> None:
        """Get a signal."""
        self.got.append(signum)
        self.told.set()


class TestHeldBack:
    """What the app and the server see of a signal."""

    async def test_the_app_serves_but_is_not_ready_and_then_the_server_is_told(self) -> None:
        """During the delay requests are answered as before and `/readyz` says 503; then handler and app are told."""
        app, server = drained_app(0.2), Server()
        with handled(signal.SIGTERM, server.handle):
            async with running(app) as scope:
                assert await answers(app) == (200, False)
                signal.raise_signal(signal.SIGTERM)
                assert await answers(app) == (503, False)
                assert server.got == []
                await server.told.wait()
                assert (await scope.get(shutting_down)).is_set()
        assert server.got == [signal.SIGTERM]

    async def test_the_same_signal_sent_twice_is_one(self) -> None:
        """As a service manager and a server's main process both send it to a worker, it is held back all the same."""
        app, server = drained_app(0.2), Server()
        with handled(signal.SIGTERM, server.handle):
            async with running(app):
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)
                assert await answers(app) == (503, False)
                assert server.got == []
                await server.told.wait()
        assert server.got == [signal.SIGTERM]

    @pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
    async def test_another_signal_ends_the_delay(self, second: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A later SIGTERM, or Ctrl-C, goes on at once, in the place of the one that was held back."""
        monkeypatch.setattr(draining, "REPEATED", 0)
        app, server = drained_app(LONG), Server()
        with handled(signal.SIGTERM, server.handle), handled(signal.SIGINT, server.handle):
            async with running(app) as scope:
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0)
                signal.raise_signal(second)
                assert server.got == [second]
                await (await scope.get(shutting_down)).wait()
        assert server.got == [second]

    async def test_ctrl_c_is_not_held_back(self) -> None:
        """SIGINT begins the shutdown at once, and SIGTERM after it is not held back either."""
        app, server = drained_app(LONG), Server()
        with handled(signal.SIGTERM, server.handle), handled(signal.SIGINT, server.handle):
            async with running(app) as scope:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
                assert server.got == [signal.SIGINT, signal.SIGTERM]
                await (await scope.get(shutting_down)).wait()

    async def test_a_developer_does_not_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In development the signal goes on at once."""
        monkeypatch.setenv("FASTAPI_ENV", "development")
        app, server = drained_app(LONG), Server()
        with handled(signal.SIGTERM, server.handle):
            async with running(app):
                signal.raise_signal(signal.SIGTERM)
                assert server.got == [signal.SIGTERM]

    async def test_without_a_delay_nothing_is_held_back(self) -> None:
        """Unless said, the signal goes on at once."""
        app, server = drained_app(0), Server()
        with handled(signal.SIGTERM, server.handle):
            async with running(app):
                signal.raise_signal(signal.SIGTERM)
                assert server.got == [signal.SIGTERM]

    async def test_an_app_that_ends_gives_the_signal_on(self) -> None:
        """Where the lifespan ends within the delay, the handler gets the signal that was held back."""
        app, server = drained_app(LONG), Server()
        with handled(signal.SIGTERM, server.handle):
            async with running(app):
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0)
                assert server.got == []
            assert server.got == [signal.SIGTERM]

    async def test_an_app_that_starts_is_not_drained(self) -> None:
        """Nobody sends requests to what is not ready yet, so that there is nothing to wait for."""
        began = asyncio.Event()

        @scoped("app")
        async def slow() -> None:
            began.set()
            await asyncio.Event().wait()

        app, server = FastAPI(lifespan=lifespan(also=[slow], drain_delay=LONG, start="background")), Server()
        with handled(signal.SIGTERM, server.handle):
            async with app.router.lifespan_context(app):
                await began.wait()
                signal.raise_signal(signal.SIGTERM)
                assert server.got == [signal.SIGTERM]

    async def test_a_forked_child_is_ended_at_once(self) -> None:
        """A child that a handler forks has the parent's handlers, and nobody who would let a signal go on."""
        app = drained_app(LONG)
        with handled(signal.SIGTERM, lambda *_: os._exit(7)):
            async with running(app):
                child = os.fork()
                if not child:
                    signal.raise_signal(signal.SIGTERM)
                    os._exit(0)
                _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
                assert os.waitstatus_to_exitcode(status) == 7

    @pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
    async def test_a_delay_is_a_number_of_seconds(self, delay: float) -> None:
        """One below 0, or without end, is refused at the start."""
        with pytest.raises(DeclarationError, match=r"drain_delay=.* is no number of seconds"):
            async with running(drained_app(delay)):
                pass


class TestEventLoop:
    """Where the event loop itself handles the signal, as gunicorn's and granian's does."""

    def test_its_handler_waits_too(self) -> None:
        """What the loop is to call is called after the delay, once; what else it handles, at once."""

        async def serve() -> None:
            loop, other, got = asyncio.get_running_loop(), asyncio.Event(), list[float]()
            told = asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, lambda: (got.append(loop.time()), told.set()))
            loop.add_signal_handler(signal.SIGUSR1, other.set)
            app = drained_app(0.2)
            async with running(app):
                began = loop.time()
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGUSR1)
                await other.wait()
                assert await answers(app) == (503, False)
                assert got == []
                await told.wait()
                assert len(got) == 1
                assert got[0] - began >= 0.2
            told.clear()
            signal.raise_signal(signal.SIGTERM)
            await told.wait()
            for signum in (signal.SIGTERM, signal.SIGUSR1):
                loop.remove_signal_handler(signum)

        asyncio.run(serve())
        assert signal.set_wakeup_fd(-1) == -1

    @pytest.mark.parametrize("first_to_end", [0, 1])
    def test_apps_of_a_process_end_in_any_order(self, first_to_end: int) -> None:
        """The loop is told after the delay of the app that is left, and as ever once both have ended."""

        async def serve() -> None:
            loop, told = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, told.set)
            apps = [drained_app(0.1), drained_app(0.1)]
            runs = [running(app) for app in apps]
            for run in runs:
                await run.__aenter__()
            await runs[first_to_end].__aexit__(None, None, None)
            signal.raise_signal(signal.SIGTERM)
            assert await answers(apps[1 - first_to_end]) == (503, False)
            assert not told.is_set()
            await told.wait()
            await runs[1 - first_to_end].__aexit__(None, None, None)
            told.clear()
            signal.raise_signal(signal.SIGTERM)
            await told.wait()
            loop.remove_signal_handler(signal.SIGTERM)

        asyncio.run(serve())

    def test_what_it_has_not_read_yet_when_the_app_ends_it_reads(self) -> None:
        """A signal that comes in the last moment, of whichever kind, is not lost."""

        async def serve() -> None:
            loop, other = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, other.set)
            loop.add_signal_handler(signal.SIGUSR1, other.set)
            with noticed(lambda _: False, may_hold=True):
                signal.raise_signal(signal.SIGUSR1)
            await other.wait()
            for signum in (signal.SIGTERM, signal.SIGUSR1):
                loop.remove_signal_handler(signum)

        asyncio.run(serve())

    def test_one_that_ends_gives_the_signal_on(self) -> None:
        """Where the lifespan ends within the delay, the loop is told."""

        async def serve() -> None:
            loop, told = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, told.set)
            async with running(drained_app(LONG)):
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0)
            await told.wait()
            loop.remove_signal_handler(signal.SIGTERM)

        asyncio.run(serve())


async def serve(app: FastAPI) -> None:
    """Run an app's lifespan as a server does that ends at once."""

    async def messages() -> AsyncIterator[dict[str, str]]:
        yield {"type": "lifespan.startup"}
        await asyncio.sleep(0.01)
        yield {"type": "lifespan.shutdown"}

    async def send(_: Any) -> None:
        """Take what the app says."""

    await app({"type": "lifespan", "state": {}}, aiter(messages()).__anext__, send)


class TestTold:
    """What is said where it cannot be."""

    async def test_a_server_that_lets_nobody_notice_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where a server handles SIGTERM in another process, a warning names it and the cure."""
        await asyncio.create_task(serve(drained_app(5)))
        assert "drain_delay=5 has no effect, as tests lets no app notice SIGTERM" in caplog.text
        assert "`preStop: sleep`" in caplog.text

    async def test_nothing_is_said_where_it_works(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing is warned of with a handler, without a server, without a delay, or in a test client."""
        caplog.set_level(logging.WARNING)
        with handled(signal.SIGTERM, lambda *_: None):
            await asyncio.create_task(serve(drained_app(5)))
        await asyncio.create_task(serve(drained_app(0)))
        async with running(drained_app(5)):
            await asyncio.sleep(0)
        with TestClient(drained_app(5)) as client:
            assert client.get("/readyz").status_code == 200
        assert caplog.text == ""
