"""An app that runs for a test or for all tests: in a loop of its own, or in that of the tests which use it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tenure.errors import MissingExtra, NotStarted, OtherLoop
from tenure.lifespan import Scope, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

CLIENTS = ("httpx", "httpx2")
BASE_URL = "http://testserver"
_SESSION_RUNNER = pytest.StashKey[str]()
ANYIO_BACKEND = '`@pytest.fixture(scope="session") def anyio_backend(): return "asyncio"`'
ASYNCIO_LOOP = '`@pytest.mark.asyncio(loop_scope="session")`, or `asyncio_default_test_loop_scope = "session"` for all'


class Run:
    """
    An app that runs in the loop of an async test.

    Attributes:
        scope: Where its values are looked up.
    """

    def __init__(self, app: FastAPI, scope: Scope) -> None:
        self.scope = scope
        self._app = app
        self._client: httpx.AsyncClient | None = None

    @property
    def client(self) -> httpx.AsyncClient:
        """A client whose requests the app answers in-process."""
        if self._client is None:
            library = _client_library()
            client: httpx.AsyncClient = library.AsyncClient(
                transport=library.ASGITransport(self._app), base_url=BASE_URL
            )
            self._client = client
        return self._client

    async def close(self) -> None:
        """Close the client, if there is one."""
        if self._client is not None:
            await self._client.aclose()


@asynccontextmanager
async def started(app: FastAPI) -> AsyncGenerator[Run]:
    """Run an app in the loop of the test that asks for it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = "the app runs in asyncio, and this test in another kind of event loop"
        raise _failure(OtherLoop(msg, hint=f"in conftest.py: {ANYIO_BACKEND}")) from None
    async with running(app) as scope:
        run = Run(app, scope)
        try:
            yield run
        finally:
            await run.close()


def client_of(app: FastAPI) -> TestClient:
    """
    Make a client that runs its app while it is entered.

    Raises:
        MissingExtra: What it sends requests with is not installed.
    """
    _client_library()
    from fastapi.testclient import TestClient  # noqa: PLC0415 (it needs what was just looked for)

    return TestClient(app)


def run_for(request: pytest.FixtureRequest, name: str) -> Run:
    """Have the app run by whatever runs the test that asks: pytest-asyncio or AnyIO's plugin."""
    item = request._pyfuncitem  # noqa: SLF001 (a session's fixture has no public way to the test that asked first)
    if request.scope == "session":
        kind: str = runner(item)
        request.config.stash[_SESSION_RUNNER] = kind
    else:
        kind = f"asyncio_{loop_scope(item)}" if runner(item) == "asyncio" else runner(item)
    run: Run = request.getfixturevalue(f"{name}_{kind}")
    return run


def runner(item: pytest.Function) -> str:
    """Say what runs a test in an event loop, ``asyncio`` for pytest-asyncio or ``anyio``; fail it if nothing does."""
    if runs_in_asyncio(item):
        return "asyncio"
    if "anyio_backend" in item.fixturenames:
        return "anyio"
    hint = "mark an async test with `@pytest.mark.anyio`, whose plugin is there with FastAPI, or, after \
`pip install pytest-asyncio`, with `@pytest.mark.asyncio`; a sync test takes `tenure_client` or `tenure_session_client`"
    raise _failure(
        NotStarted(f"`{item.name}` has no event loop that the app could run in", path=[place(item)], hint=hint)
    )


def refuse_other_loop(item: pytest.Function) -> None:
    """Fail a test that asks for the app of all tests, and does not run in the loop of all tests."""
    kind = runner(item)
    first = item.config.stash.get(_SESSION_RUNNER, kind)
    if kind == "asyncio" and loop_scope(item) != "session":
        has, hint = f"one of the {loop_scope(item)}", f"run the test in the session's loop: {ASYNCIO_LOOP}"
    elif kind == "anyio" and (scope := _backend_scope(item)) != "session":
        has, hint = f"one of the {scope}, as its `anyio_backend` is", f"in conftest.py: {ANYIO_BACKEND}"
    elif kind != first:
        names = {"asyncio": "pytest-asyncio", "anyio": "AnyIO"}
        has, hint = f"one of {names[kind]}", f"run all tests that ask for it by {names[first]}, as the first one is"
    else:
        return
    msg = f"the app of the session runs in one loop, and `{item.name}` in {has}"
    raise _failure(OtherLoop(msg, path=[place(item)], hint=hint))


def loop_scope(item: pytest.Item) -> str:
    """Say for how long pytest-asyncio keeps the loop that a test runs in."""
    marker = item.get_closest_marker("asyncio")
    said = marker.kwargs.get("loop_scope") if marker is not None else None
    return str(said or option(item.config, "asyncio_default_test_loop_scope") or "function")


def option(config: pytest.Config, name: str) -> object:
    """Give what an ini option of another plugin says, or None where that plugin's version has no such option."""
    try:
        return config.getini(name)
    except ValueError:
        return None


def runs_in_asyncio(item: pytest.Item) -> bool:
    """Tell whether pytest-asyncio runs a test."""
    is_there = item.config.pluginmanager.has_plugin("tenure-asyncio")
    return is_there and item.get_closest_marker("asyncio") is not None


def place(item: pytest.Item) -> str:
    """Say where a test is written."""
    path, line, _ = item.location
    return f"{path}:{(line or 0) + 1}"


def _backend_scope(item: pytest.Function) -> str:
    return str(item._fixtureinfo.name2fixturedefs["anyio_backend"][-1].scope)  # noqa: SLF001 (nothing public says it)


def _client_library() -> Any:  # noqa: ANN401 (one of two modules that are alike)
    for name in CLIENTS:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    msg = "a client that sends requests to the app needs httpx, which is not installed"
    raise MissingExtra(msg, hint='pip install "tenure[httpx]"')


def _failure(error: NotStarted | OtherLoop) -> BaseException:
    """Give what fails a test with an error's text alone: where it was raised says nothing to the user."""
    return pytest.fail.Exception(str(error), pytrace=False)
