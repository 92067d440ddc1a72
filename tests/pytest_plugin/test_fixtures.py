"""The fixtures: an app for a test or for all, its clients, and what replaces parts of it."""

from __future__ import annotations

import pytest

from conftest import OPTIONS, RunTests


def test_app_for_each_test(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """`tenure_client` starts the app for a test and closes it after it; its state begins anew, durable counts too."""
    pytester.makepyfile("""
        import pytest
        from service import events

        @pytest.mark.parametrize("turn", range(3))
        def test_it(tenure_client, turn):
            assert events == ["opened", "closed"] * turn + ["opened"]
            assert tenure_client.get("/database").json() == "real"
            assert [tenure_client.post("/hits").json() for _ in range(2)] == [1, 2]

        def test_closed():
            assert events == ["opened", "closed"] * 3
    """)
    run_tests().assert_outcomes(passed=4)


def test_app_for_all_tests(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """`tenure_session_client` starts the app once; its state goes on from test to test."""
    pytester.makeconftest("""
        def pytest_unconfigure():
            from service import events
            print("in the end", events)
    """)
    pytester.makepyfile("""
        import pytest
        from service import events

        @pytest.mark.parametrize("turn", range(3))
        def test_it(tenure_session_client, turn):
            assert events == ["opened"]
            assert tenure_session_client.post("/hits").json() == turn + 1
    """)
    result = run_tests()
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines("in the end ?'opened', 'closed'?")


def test_two_at_once(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """An app may run for a test while it runs for all, sync and async: each run has instances and state of its own."""
    pytester.makepyfile("""
        import pytest
        from fastapi.testclient import TestClient
        from service import app, events

        @pytest.mark.anyio
        async def test_it(tenure_session_client, tenure_client, tenure_async_client, anyio_backend):
            with TestClient(app) as another:
                assert events == ["opened"] * 4
                assert another.get("/database").json() == "real"
            assert [tenure_session_client.post("/hits").json() for _ in range(2)] == [1, 2]
            assert tenure_client.post("/hits").json() == 1
            assert (await tenure_async_client.get("/database")).json() == "real"
    """)
    run_tests().assert_outcomes(passed=1)


def test_database_is_off(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """With one override before the start the real one is never opened; routes, mounts and websockets get the fake."""
    pytester.makepyfile("""
        import pytest
        from service import app, database, events

        async def fake():
            events.append("fake opened")
            yield "fake"
            events.append("fake closed")

        @pytest.fixture(autouse=True)
        def no_database(tenure_override):
            tenure_override({database: fake})

        def test_sync(tenure_client):
            assert tenure_client.get("/database").json() == "fake"
            assert tenure_client.get("/mounted/database").json() == "fake"
            with tenure_client.websocket_connect("/live") as socket:
                assert socket.receive_text() == "fake"

        @pytest.mark.anyio
        async def test_async(tenure_scope, tenure_async_client, anyio_backend):
            assert await tenure_scope.get(database) == "fake"
            assert (await tenure_async_client.get("/database")).json() == "fake"

    """)
    pytester.makepyfile(
        test_z="""
        from service import app, events

        def test_undone(tenure_client):
            assert app.dependency_overrides == {}
            assert events == ["fake opened", "fake closed"] * 2 + ["opened"]
            assert tenure_client.get("/database").json() == "real"
    """
    )
    run_tests().assert_outcomes(passed=3)


def test_override_of_a_running_app(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """An override said while the app of all tests runs holds for the requests of one test."""
    pytester.makepyfile("""
        from service import database, events

        def test_one(tenure_session_client, tenure_override):
            tenure_override({database: lambda: "for now"})
            assert tenure_session_client.get("/database").json() == "for now"

        def test_another(tenure_session_client):
            assert tenure_session_client.get("/database").json() == "real"
            assert events == ["opened"]
    """)
    run_tests().assert_outcomes(passed=2)


def test_many_tests_open_little(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """Of 200 tests, the first that asks for the app of all tests opens its database, and the others open nothing."""
    pytester.makepyfile("""
        import sys
        import pytest

        @pytest.mark.parametrize("turn", range(100))
        def test_alone(turn):
            assert "service" not in sys.modules

        @pytest.mark.parametrize("turn", range(100))
        def test_with_app(tenure_session_client, turn):
            assert tenure_session_client.get("/openapi.json").status_code == 200
            assert sys.modules["service"].events == ["opened"]
    """)
    run_tests().assert_outcomes(passed=200)


def test_app_that_is_made(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """A fixture `tenure_app` of the project takes the place of the option; what it overrides is so for all tests."""
    pytester.makefile(".ini", pytest=OPTIONS.replace("tenure_app", "# tenure_app"))
    pytester.makeconftest("""
        import pytest
        from tenure import override

        @pytest.fixture(scope="session")
        def tenure_app():
            from service import app, database
            with override(app, {database: lambda: "fake"}):
                yield app
    """)
    pytester.makepyfile("""
        from service import events

        def test_all(tenure_session_client, tenure_client):
            assert tenure_session_client.get("/database").json() == "fake"
            assert tenure_client.get("/database").json() == "fake"
            assert events == []
    """)
    run_tests().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ("", ["error?declaration?: nothing says which app is tested", "hint: set `tenure_app = *"]),
        (
            "nowhere.main:app",
            [
                "error?declaration?: `nowhere.main` cannot be imported",
                "  tenure_app = 'nowhere.main:app'",
                "  there is no module `nowhere` on sys.path",
                "hint: *pythonpath*",
            ],
        ),
        (
            "service:application",
            [
                "error?declaration?: `service` has no `application`",
                "  imported `service`  *service.py",
                "hint: it has *`service:app`*; name that, or write a * fixture `tenure_app`*",
            ],
        ),
        ("service:which", ["error?declaration?: `service:which` is a function, not a FastAPI app"]),
        ("service:hits", ["error?declaration?: `service:hits` is of type `Counter`, not a FastAPI app"]),
        ("lonely:name.part", ["error?declaration?: `lonely` has no `name.part`", "hint: name an app, or write *"]),
        ("broken:app", ["*No module named 'not_installed'"]),
    ],
)
def test_wrong_names(pytester: pytest.Pytester, run_tests: RunTests, option: str, lines: list[str]) -> None:
    """A test whose app cannot be found fails with what was tried; an error of the app's module is shown as it is."""
    pytester.makefile(".ini", pytest=OPTIONS.replace("service:app", option))
    pytester.makepyfile(lonely="name = 1", broken="import not_installed")
    pytester.makepyfile("def test_it(tenure_client): ...")
    result = run_tests(in_process=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(lines)


@pytest.mark.parametrize("option", ["service", "service:", ":app"])
def test_misspelt_option(pytester: pytest.Pytester, run_tests: RunTests, option: str) -> None:
    """An option that can name no app is an error of use, before any test is collected."""
    pytester.makefile(".ini", pytest=OPTIONS.replace("service:app", option))
    result = run_tests(in_process=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: tenure_app = '{option}' names no app: *`package.module:app`")


def test_missing_client_library(pytester: pytest.Pytester, run_tests: RunTests) -> None:
    """Where nothing is installed that sends requests, the fixture says what to install."""
    pytester.makeconftest("""
        import sys

        sys.modules["httpx"] = sys.modules["httpx2"] = None
    """)
    pytester.makepyfile("def test_it(tenure_client): ...")
    result = run_tests()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*error?missing-extra?: a client * needs httpx*", '*hint: pip install "tenure?httpx?"']
    )


def test_nothing_is_loaded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that does not use tenure loads no FastAPI for its plugin; its failures stay as they are."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others may load it
    pytester.makepyfile("""
        import sys

        def test_it():
            loaded = {name.partition(".")[0] for name in sys.modules}
            assert loaded.isdisjoint({"anyio", "asyncio", "fastapi", "starlette", "pydantic"})
            ours = {name for name in sys.modules if name.startswith("tenure.")}
            assert ours == {"tenure.lazy", "tenure.pytest_plugin", "tenure.pytest_plugin.fixtures"}

        def test_fails():
            raise RuntimeError("attached to a different loop")

        def test_after():
            assert "fastapi" not in sys.modules
    """)
    result = pytester.runpytest_subprocess("-p", "tenure")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.no_fnmatch_line("*error?other-loop?*")
