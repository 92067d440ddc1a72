"""
The plugin for pytest: fixtures that run an app for a test or for all, and a word on why a test met another loop.

pytest loads it by itself, in every project where tenure is installed. So this module imports pytest alone; what its
fixtures do is in the modules beside it, which are loaded, with FastAPI, when one of them is used.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping

    import httpx
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from tenure import Scope
    from tenure.pytest_plugin.runs import Run

APP = "tenure_app"
"""The ini option that names the app, and the fixture that gives it."""
SUFFIX = "TENURE_DEPLOYMENT_SUFFIX"
"""The environment variable whose value `tenure.state.deployments` puts after the name of every deployment."""
SESSION_RUN, TEST_RUN = "_tenure_session_run", "_tenure_run"
LOOP_SCOPES: tuple[Literal["function", "class", "module", "package", "session"], ...] = (
    "function",
    "class",
    "module",
    "package",
    "session",
)
"""For how long pytest-asyncio may keep a loop."""

_tests = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the app."""
    parser.addini(APP, type="string", default="", help="the FastAPI app that is tested: package.module:app")


def pytest_configure(config: pytest.Config) -> None:
    """
    Keep what this process shares with nobody else apart, and make the fixtures that pytest-asyncio would run.

    Raises:
        pytest.UsageError: The option is not of the form ``package.module:app``.
    """
    named = config.getini(APP)
    if named and not all(part.strip() for part in named.partition(":")):
        msg = f"{APP} = {named!r} names no app: write the module, a colon and the app's name, `package.module:app`"
        raise pytest.UsageError(msg)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    suffix = "-".join(filter(None, ("-test", worker, os.urandom(3).hex())))
    environment = pytest.MonkeyPatch()
    environment.setenv(SUFFIX, suffix)
    config.add_cleanup(partial(_clean, suffix))
    config.add_cleanup(environment.undo)
    if config.pluginmanager.is_registered(sys.modules.get("pytest_asyncio.plugin")):
        config.pluginmanager.register(_for_pytest_asyncio(), "tenure-asyncio")


def _clean(suffix: str) -> None:
    if "tenure.state.deployments" in sys.modules:
        from tenure.pytest_plugin.leftovers import clean

        clean(suffix, patience=12)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test in a loop other than that of the app which it asks for."""
    if isinstance(item, pytest.Function) and not {"tenure_session_scope", "tenure_session_async_client"}.isdisjoint(
        item.fixturenames
    ):
        from tenure.pytest_plugin.runs import refuse_other_loop

        refuse_other_loop(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a section to the report of a test that failed since its app was not started, or lives in another loop."""
    report = yield
    if report.failed and call.excinfo is not None and "tenure.lifespan" in sys.modules:
        from tenure.pytest_plugin.explanations import explain

        explanation = explain(item, call.excinfo.value)
        add = getattr(report.longrepr, "addsection", None)
        if explanation is not None and add is not None:
            add("tenure", str(explanation))
    return report


@pytest.fixture(scope="session")
def tenure_app(pytestconfig: pytest.Config) -> FastAPI:
    """
    The app that is tested, not started: what the ini option `tenure_app` names.

    A fixture of this name in a conftest.py takes its place, where an app is made and not imported.
    """
    from tenure.pytest_plugin.apps import named_app

    return named_app(pytestconfig)


@pytest.fixture
def tenure_override(tenure_app: FastAPI) -> Iterator[Callable[[Mapping[Callable[..., Any], Callable[..., Any]]], None]]:
    """
    A function that replaces dependencies of the app until the test has ended: `tenure_override({pool: fake})`.

    Called before the app has started, as by a fixture that stands before `tenure_client` or by one with `autouse`, what
    is replaced is never opened. Called while the app runs, it holds for requests from then on. See `tenure.override`.
    """
    from tenure import override

    with ExitStack() as stack:

        def replace(overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
            stack.enter_context(override(tenure_app, overrides))

        yield replace


@pytest.fixture
def _tenure_apart() -> Iterator[None]:
    """A deployment for this test, so that its app begins with nothing."""
    from tenure.pytest_plugin.leftovers import clean

    suffix = f"{os.environ.get(SUFFIX, '')}-{next(_tests)}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SUFFIX, suffix)
        yield
    clean(suffix)


@pytest.fixture
def tenure_client(tenure_app: FastAPI, tenure_override: object, _tenure_apart: None) -> Iterator[TestClient]:
    """A client whose app has been started for this test, in a loop of its own, and is closed after it."""
    from tenure.pytest_plugin.runs import client_of

    with client_of(tenure_app) as client:
        yield client


@pytest.fixture(scope="session")
def tenure_session_client(tenure_app: FastAPI) -> Iterator[TestClient]:
    """A client whose app is started once for all tests that ask for it; it keeps its cookies from test to test."""
    from tenure.pytest_plugin.runs import client_of

    with client_of(tenure_app) as client:
        yield client


@pytest.fixture(name=TEST_RUN)
def _tenure_run(request: pytest.FixtureRequest) -> Run:
    from tenure.pytest_plugin.runs import run_for

    return run_for(request, TEST_RUN)


@pytest.fixture(name=SESSION_RUN, scope="session")
def _tenure_session_run(request: pytest.FixtureRequest) -> Run:
    from tenure.pytest_plugin.runs import run_for

    return run_for(request, SESSION_RUN)


@pytest.fixture
def tenure_scope(_tenure_run: Run) -> Scope:
    """A `Scope` of the app, which has been started for this async test, in its loop, and is closed after it."""
    return _tenure_run.scope


@pytest.fixture
def tenure_async_client(_tenure_run: Run) -> httpx.AsyncClient:
    """A client for async tests, of the app that `tenure_scope` gives."""
    return _tenure_run.client


@pytest.fixture(scope="session")
def tenure_session_scope(_tenure_session_run: Run) -> Scope:
    """A `Scope` of the app, which is started once for all async tests that ask for it; they share its loop."""
    return _tenure_session_run.scope


@pytest.fixture(scope="session")
def tenure_session_async_client(_tenure_session_run: Run) -> httpx.AsyncClient:
    """A client for async tests, of the app that `tenure_session_scope` gives; it keeps its cookies."""
    return _tenure_session_run.client


def _per_test() -> Callable[..., AsyncIterator[Run]]:
    async def run(tenure_app: FastAPI, tenure_override: object, _tenure_apart: None) -> AsyncIterator[Run]:
        from tenure.pytest_plugin.runs import started

        async with started(tenure_app) as run:
            yield run

    return run


def _per_session() -> Callable[..., AsyncIterator[Run]]:
    async def run(tenure_app: FastAPI) -> AsyncIterator[Run]:
        from tenure.pytest_plugin.runs import started

        async with started(tenure_app) as run:
            yield run

    return run


# AnyIO's plugin runs async fixtures of a test that it runs. pytest-asyncio runs those that are made for it, each in a
# loop that is named when it is made.
_run_anyio = pytest.fixture(name=f"{TEST_RUN}_anyio")(_per_test())
_session_run_anyio = pytest.fixture(scope="session", name=f"{SESSION_RUN}_anyio")(_per_session())


def _for_pytest_asyncio() -> ModuleType:
    import pytest_asyncio

    fixtures = ModuleType("tenure-asyncio")
    for scope in LOOP_SCOPES:
        name = f"{TEST_RUN}_asyncio_{scope}"
        setattr(fixtures, name, pytest_asyncio.fixture(loop_scope=scope, name=name)(_per_test()))
    name = f"{SESSION_RUN}_asyncio"
    made = pytest_asyncio.fixture(scope="session", loop_scope="session", name=name)(_per_session())
    setattr(fixtures, name, made)
    return fixtures
