"""Async tests: the app lives in the loop of the test, whichever plugin runs that."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from conftest import OPTIONS, RunTests
from tenure.pytest_plugin.runs import started

SAME_LOOP = """
        import asyncio
        from typing import Annotated

        import pytest
        from fastapi import Depends
        from service import app, database, events
        from tenure import scoped

        @scoped("app")
        async def loop() -> object:
            return asyncio.get_running_loop()

        @app.get("/loop")
        async def same(loop: Annotated[object, Depends(loop)]) -> bool:
            return loop is asyncio.get_running_loop()

        async def check(scope, client):
            assert await scope.get(loop) is asyncio.get_running_loop()
            assert (await client.get("/loop")).json() is True
"""


def test_anyio(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """AnyIO's plugin runs the app for each test, and for all where its loop lasts as long."""
    pytester.makeconftest("""
        import pytest

        @pytest.fixture(scope="session")
        def anyio_backend():
            return "asyncio"
    """)
    pytester.makepyfile(
        SAME_LOOP
        + """
        pytestmark = pytest.mark.anyio

        @pytest.mark.parametrize("turn", range(2))
        async def test_alone(tenure_scope, tenure_async_client, turn):
            await check(tenure_scope, tenure_async_client)
            assert events == ["opened", "closed"] * turn + ["opened"]

        @pytest.mark.parametrize("turn", range(2))
        async def test_for_all(tenure_session_scope, tenure_session_async_client, turn):
            await check(tenure_session_scope, tenure_session_async_client)
            assert events == ["opened", "closed"] * 2 + ["opened"]

        async def test_both(tenure_session_scope, tenure_scope, tenure_async_client):
            await check(tenure_scope, tenure_async_client)
            assert await tenure_session_scope.get(loop) is await tenure_scope.get(loop)
            assert len(events) == 6
        """
    )
    run_tests().assert_outcomes(passed=5)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio(pytester: pytest.Pytester, run_tests: RunTests, mode: str) -> None:
    """pytest-asyncio runs the app in the loop of the test, however long that lasts; for all in the session's loop."""
    pytester.makepyfile(
        SAME_LOOP
        + """
        pytestmark = pytest.mark.asyncio

        @pytest.mark.parametrize("turn", range(2))
        async def test_alone(tenure_scope, tenure_async_client, turn):
            await check(tenure_scope, tenure_async_client)
            assert events == ["opened", "closed"] * turn + ["opened"]

        @pytest.mark.asyncio(loop_scope="module")
        async def test_in_a_loop_of_the_module(tenure_scope, tenure_async_client):
            await check(tenure_scope, tenure_async_client)

        @pytest.mark.asyncio(loop_scope="session")
        @pytest.mark.parametrize("turn", range(2))
        async def test_for_all(tenure_session_scope, tenure_session_async_client, turn):
            await check(tenure_session_scope, tenure_session_async_client)
            assert events == ["opened", "closed"] * 3 + ["opened"]

        @pytest.mark.asyncio(loop_scope="session")
        async def test_both(tenure_session_scope, tenure_scope, tenure_async_client):
            await check(tenure_scope, tenure_async_client)
            assert await tenure_session_scope.get(loop) is await tenure_scope.get(loop)
        """
    )
    run_tests("--asyncio-mode", mode).assert_outcomes(passed=6)


def test_fixtures_on_the_app_of_all_tests(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """A fixture of the project may fill the app of all tests, in the loop that the option gives to all."""
    options = f"{OPTIONS}asyncio_mode = auto\nasyncio_default_test_loop_scope = session\n"
    pytester.makefile(".ini", pytest=options.replace("loop_scope = function", "loop_scope = session"))
    pytester.makepyfile("""
        import pytest

        @pytest.fixture(scope="session")
        async def filled(tenure_session_async_client):
            return [(await tenure_session_async_client.post("/hits")).json() for _ in range(2)]

        async def test_it(filled, tenure_session_async_client):
            assert filled == [1, 2]
            assert (await tenure_session_async_client.post("/hits")).json() == 3
    """)
    run_tests().assert_outcomes(passed=1)


def test_no_loop(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """Without what runs async tests, a test that needs it is told which fixture to take, or what to install."""
    pytester.makepyfile("""
        def test_sync(tenure_scope): ...

        def test_sync_for_all(tenure_session_scope): ...

        async def test_unmarked(tenure_async_client): ...
    """)
    pytester.makefile(".ini", pytest=OPTIONS.replace("-p pytest_asyncio.plugin", "").replace("asyncio_", "# asyncio_"))
    result = run_tests()
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [
            "error?not-started?: `test_sync` has no event loop that the app could run in",
            "  test_no_loop.py:1",
            "hint: mark an async test with `@pytest.mark.anyio`*`pip install pytest-asyncio`*`tenure_client`*",
            "error?not-started?: `test_sync_for_all` has no event loop *",
            "error?not-started?: `test_unmarked` has no event loop *",
        ]
    )


def test_loops_that_last_too_short(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """A test is refused the app of all tests outside of the loop of all tests; the tests after it are not."""
    pytester.makepyfile("""
        import pytest

        @pytest.mark.anyio
        async def test_anyio(tenure_session_scope, anyio_backend): ...

        @pytest.mark.asyncio
        async def test_function(tenure_session_async_client): ...

        @pytest.mark.asyncio(loop_scope="session")
        async def test_session(tenure_session_scope): ...
    """)
    pytester.makepyfile(
        test_z="""
        import pytest

        @pytest.fixture(scope="session")
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_other_plugin(tenure_session_scope): ...
    """
    )
    result = run_tests()
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines(
        [
            "error?other-loop?: *`test_anyio?asyncio?` in one of the module, as its `anyio_backend` is",
            'hint: in conftest.py: `@pytest.fixture(scope="session") def anyio_backend(): return "asyncio"`',
            "error?other-loop?: the app of the session runs in one loop, and `test_function` in one of the function",
            'hint: *`@pytest.mark.asyncio(loop_scope="session")`, or *',
            "error?other-loop?: the app of the session runs in one loop, and `test_other_plugin` in one of AnyIO",
            "hint: run all tests that ask for it by pytest-asyncio, as the first one is",
        ]
    )


def test_other_kind_of_loop() -> None:
    """A test that runs in no loop of asyncio, such as one in trio, is told how to get one."""
    entering = started(FastAPI()).__aenter__()
    with pytest.raises(pytest.fail.Exception, match=r"(?s)another kind of event loop.*in conftest\.py"):
        entering.send(None)
