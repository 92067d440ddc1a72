"""What a failed test is told: that its app was not started, or that what it uses belongs to another event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.roster.service import reachable_folder

from conftest import OPTIONS, RunTests
from tenure.host import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A PostgreSQL."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield server.dsn()


def test_client_that_was_not_entered(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """A request of a `TestClient` without `with` is explained, also after the app has run for another test."""
    pytester.makepyfile("""
        import pytest
        from fastapi.testclient import TestClient
        from service import app

        def test_request():
            TestClient(app).get("/database")

        def test_used_before(tenure_client): ...

        def test_request_after():
            TestClient(app).get("/database")

        def test_socket():
            with TestClient(app).websocket_connect("/live") as socket:
                socket.receive_text()
    """)
    result = run_tests()
    result.assert_outcomes(passed=1, failed=3)
    for test, line in (("request", 6), ("request_after", 11), ("socket", 14)):
        result.stdout.fnmatch_lines(
            [
                "*- tenure -*",
                f"error?not-started?: `test_{test}` sent a request to an app *: its `TestClient` was not entered",
                f"  requested at  test_client_that_was_not_entered.py:{line}",
                "hint: take the fixture `tenure_client`, *",
            ]
        )


def test_transport_starts_nothing(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """A request by `ASGITransport` to an app that does not run is explained."""
    pytester.makepyfile("""
        import httpx
        import pytest
        from service import app

        @pytest.mark.asyncio
        async def test_it():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                await client.get("/database")
    """)
    result = run_tests()
    result.stdout.fnmatch_lines(
        [
            "error?not-started?: `test_it` sent a request to *: `ASGITransport` sends requests and starts nothing",
            "  requested at  test_transport_starts_nothing.py:8",
            "hint: take the fixture `tenure_async_client`, *",
        ]
    )


def test_state_of_another_lifespan(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """What a lifespan would have put into the state is missed for the same reason; a misspelling is not explained."""
    pytester.makepyfile("""
        from contextlib import asynccontextmanager

        from fastapi import FastAPI, Request
        from fastapi.testclient import TestClient
        from tenure import lifespan

        @asynccontextmanager
        async def mine(app):
            yield {"pool": "a pool"}

        app = FastAPI(lifespan=lifespan(mine))

        @app.get("/{name}")
        async def value(name: str, request: Request) -> str:
            return getattr(request.state, name)

        def test_not_started():
            TestClient(app).get("/pool")

        def test_misspelt():
            with TestClient(app) as client:
                client.get("/pol")
    """)
    result = run_tests()
    result.assert_outcomes(failed=2)
    sections = [line for line in result.outlines if line.startswith("error[")]
    assert len(sections) == 1
    assert sections[0].startswith("error[not-started]: `test_not_started` sent a request")


def test_fixture_in_another_loop(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """Where a fixture's loop is not the test's, both are named, and the setting that makes them one."""
    pytester.makepyfile("""
        import asyncio

        import pytest
        import pytest_asyncio
        from service import app, database
        from tenure import running

        @pytest_asyncio.fixture(scope="session", loop_scope="session")
        async def scope():
            async with running(app) as scope:
                yield scope

        @pytest_asyncio.fixture
        async def future():
            return asyncio.get_running_loop().create_future()

        @pytest.mark.asyncio
        async def test_shorter(scope):
            await scope.get(database)

        @pytest.mark.asyncio(loop_scope="module")
        async def test_longer(future):
            await future
    """)
    result = run_tests()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "error?other-loop?: `test_shorter` uses what belongs to another event loop",
            "  `test_shorter` runs in a loop of the function  test_fixture_in_another_loop.py:17",
            "  `scope` runs in a loop of the session  test_fixture_in_another_loop.py:8",
            "  used at  test_fixture_in_another_loop.py:19",
            'hint: let the test run in the loop of `scope`: `@pytest.mark.asyncio(loop_scope="session")`, *',
            "*attached to a different loop",
            "error?other-loop?: `test_longer` uses what belongs to another event loop",
            "  `test_longer` runs in a loop of the module  *",
            "  `future` runs in a loop of the function  *",
            'hint: let `future` run in the loop of the test: `@pytest_asyncio.fixture(loop_scope="module")`, *',
        ]
    )


def test_client_in_a_thread(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """A look into the app of a `TestClient` is explained by the thread in which that runs."""
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def client(tenure_client):
            queue = {}

            @tenure_client.app.get("/make")
            async def make() -> None:
                import asyncio
                queue["future"] = asyncio.get_running_loop().create_future()

            tenure_client.get("/make")
            tenure_client.future = queue["future"]
            return tenure_client

        @pytest.mark.anyio
        async def test_it(client, anyio_backend):
            await client.future
    """)
    result = run_tests()
    result.stdout.fnmatch_lines(
        [
            "error?other-loop?: `test_it?asyncio?` uses what belongs to another event loop",
            "  `client` has a loop of its own, in a thread  *",
            "hint: ask the app of `*client` by requests alone, or run the app in the loop of an async test: *",
        ]
    )


def test_made_when_imported(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """What was made elsewhere is to be made by each run of the app, or to be used in one loop."""
    pytester.makepyfile("""
        import asyncio

        import pytest
        from fastapi.testclient import TestClient
        from service import app

        lock = asyncio.Lock()
        contended = pytest.mark.parametrize("turn", range(2))

        async def contend():
            async def hold():
                async with lock:
                    await asyncio.sleep(0)
            await asyncio.gather(hold(), hold())

        @app.get("/contend")
        async def contend_by_request() -> None:
            await contend()

        @contended
        @pytest.mark.anyio
        async def test_anyio(turn, anyio_backend):
            await contend()

        @pytest.mark.asyncio
        async def test_asyncio():
            await contend()

        def test_sync(tenure_client):
            tenure_client.get("/contend")
    """)
    result = run_tests()
    result.assert_outcomes(passed=1, failed=3)
    hint = 'hint: *make it a dependency, `@scoped("app")`, of which each run of the app has its own; or'
    result.stdout.fnmatch_lines(
        [
            "error?other-loop?: `test_anyio?*` uses what belongs to another event loop",
            "  used at  test_made_when_imported.py:12",
            f"{hint} keep one loop: a session-scoped `anyio_backend`, *",
            "error?other-loop?: `test_asyncio` uses *",
            f"{hint} run all tests that use it in one loop: `@pytest.mark.asyncio(loop_scope=*",
            "error?other-loop?: `test_sync` uses *",
            f"{hint} share one client: `tenure_session_client`",
        ]
    )


def test_connection_of_another_loop(
    pytester: pytest.Pytester, run_tests: RunTests, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that "another operation" seems to use is told apart: it met another loop, or two tasks."""
    monkeypatch.setenv("DSN", dsn)
    pytester.makefile(".ini", pytest=f"{OPTIONS}asyncio_mode = auto\nfilterwarnings = ignore\n")
    pytester.makepyfile("""
        import asyncio
        import os

        import asyncpg
        import pytest
        import service

        kept = []

        async def test_makes_it():
            kept.append(await asyncpg.connect(os.environ["DSN"]))

        async def test_first_use():
            await kept[0].fetchval("SELECT 1")

        async def test_second_use():
            await kept[0].fetchval("SELECT 1")

        async def test_two_tasks():
            connection = await asyncpg.connect(os.environ["DSN"])
            try:
                await asyncio.gather(*(connection.fetchval("SELECT pg_sleep(0.1)") for _ in range(2)))
            finally:
                connection.terminate()
    """)
    result = run_tests()
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*attached to a different loop*",
            "error?other-loop?: `test_first_use` uses what belongs to another event loop",
            "*another operation is in progress*",
            "error?other-loop?: `test_second_use` uses what belongs to another event loop",
            "*another operation is in progress*",
        ]
    )
    result.stdout.no_fnmatch_line("error?other-loop?: `test_two_tasks`*")
