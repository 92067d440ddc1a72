"""Why a test failed, where its error does not say so: the app was not started, or belongs to another loop."""

from __future__ import annotations

import asyncio
import re
from inspect import isasyncgenfunction, iscoroutinefunction, unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from tenure.belonging import running_app
from tenure.errors import NotRunning, NotStarted, OtherLoop, TenureError
from tenure.pytest_plugin.fixtures import LOOP_SCOPES
from tenure.pytest_plugin.runs import ASYNCIO_LOOP, loop_scope, option, place, runs_in_asyncio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    import pytest

_OTHER_LOOP = re.compile(r"attached to a different loop|is bound to a different event loop")
_IN_USE = "another operation is in progress"
_NO_STATE = re.compile(r"'State' object has no attribute '(\w+)'")
_STARTERS = "`with TestClient(app) as client:` or `async with running(app):`"


def explain(item: pytest.Item, error: BaseException) -> TenureError | None:
    """Give what a failed test is to be told beside its error, if that is one that this module knows."""
    for each in _all_of(error):
        frames = [*_frames(error), *_frames(each)]  # what led to it as a whole has the test, and the client
        explanation = _not_started(item, each, frames) or _other_loop(item, each, frames)
        if explanation is not None:
            return explanation
    return None


def _all_of(error: BaseException) -> Iterator[BaseException]:
    """Give an error, what a group holds, and what it was raised for or met."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        members = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [*members, *filter(None, (each.__cause__, each.__context__))]


def _frames(error: BaseException) -> Iterator[FrameType]:
    at = error.__traceback__
    while at is not None:
        yield at.tb_frame
        at = at.tb_next


def _meets_other_loop(error: BaseException, frames: list[FrameType]) -> bool:
    """Tell whether it is of two loops; a connection that seems to be in use may have met another loop than its own."""
    if isinstance(error, OtherLoop) or _OTHER_LOOP.search(str(error)):
        return True
    if _IN_USE not in str(error):
        return False
    owners = [frame.f_locals.get("self") for frame in frames]
    loops = {id(loop) for loop in map(_loop_of, owners) if loop is not None}
    return len(loops) > 1


def _loop_of(owner: object) -> asyncio.AbstractEventLoop | None:
    loop = owner if isinstance(owner, asyncio.AbstractEventLoop) else getattr(owner, "_loop", None)
    return loop if isinstance(loop, asyncio.AbstractEventLoop) else None


def _other_loop(item: pytest.Item, error: BaseException, frames: list[FrameType]) -> OtherLoop | None:
    if not _meets_other_loop(error, frames):
        return None
    own = loop_scope(item) if runs_in_asyncio(item) else ""
    is_async = bool(own) or "anyio_backend" in getattr(item, "fixturenames", ())
    path = [f"`{item.name}`{f' runs in a loop of the {own}' if own else ''}  {place(item)}"]
    hint = ""
    for name, fixture in _fixtures(item):
        function = unwrap(fixture.func)  # older versions of pytest-asyncio leave it wrapped
        where = _where(function)
        if _is_test_client(fixture):
            path.append(f"`{name}` has a loop of its own, in a thread  {where}")
            hint = hint or (_ask_by_requests(name) if is_async else "")
        elif isasyncgenfunction(function) or iscoroutinefunction(function):
            scope = _fixture_loop_scope(item, fixture) if own else fixture.scope
            path.append(f"`{name}` runs in a loop of the {scope}  {where}")
            hint = hint or _share_loop(name, scope, own)
    user = _last_of_user(item, frames)
    if user is not None:
        path.append(f"used at  {_relative(item, user.f_code.co_filename)}:{user.f_lineno}")
    msg = f"`{item.name}` uses what belongs to another event loop"
    return OtherLoop(msg, path=path, hint=hint or _make_anew(own, is_async=is_async))


def _ask_by_requests(client: str) -> str:
    own = "`tenure_scope` and `tenure_async_client`"
    return f"ask the app of `{client}` by requests alone, or run the app in the loop of an async test: {own}"


def _share_loop(name: str, scope: str, own: str) -> str:
    """Say how a fixture and a test that pytest-asyncio runs get the loop of the one that keeps its own longer."""
    if not own or own == scope:
        return ""
    if LOOP_SCOPES.index(scope) > LOOP_SCOPES.index(own):
        return f"let the test run in the loop of `{name}`: {ASYNCIO_LOOP.replace('session', scope)}"
    for_all = f'`asyncio_default_fixture_loop_scope = "{own}"` for all'
    return f'let `{name}` run in the loop of the test: `@pytest_asyncio.fixture(loop_scope="{own}")`, or {for_all}'


def _make_anew(own: str, *, is_async: bool) -> str:
    if own:
        share = f"run all tests that use it in one loop: {ASYNCIO_LOOP}"
    elif is_async:
        share = "keep one loop: a session-scoped `anyio_backend`, and an async fixture of that scope that holds it"
    else:
        share = "share one client: `tenure_session_client`"
    begin = "what was made in another test, or when a module was imported, is of another loop"
    return f'{begin}: make it a dependency, `@scoped("app")`, of which each run of the app has its own; or {share}'


def _fixtures(item: pytest.Item) -> Iterator[tuple[str, pytest.FixtureDef[Any]]]:
    """Give the user's fixtures, and this plugin's, that a test has asked for."""
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name, definitions in found.items():
        if definitions and not name.startswith("_"):
            yield name, definitions[-1]


def _is_test_client(fixture: pytest.FixtureDef[Any]) -> bool:
    cached = fixture.cached_result
    return cached is not None and any(kind.__module__ == "starlette.testclient" for kind in type(cached[0]).__mro__)


def _fixture_loop_scope(item: pytest.Item, fixture: pytest.FixtureDef[Any]) -> str:
    """Say for how long pytest-asyncio keeps a fixture's loop: as was said there, else for all, else as its scope."""
    said = getattr(fixture.func, "_loop_scope", None) or option(item.config, "asyncio_default_fixture_loop_scope")
    return fixture.scope if said in {None, "", "fixture-scope"} else str(said)


def _not_started(item: pytest.Item, error: BaseException, frames: list[FrameType]) -> NotStarted | None:
    is_no_state = isinstance(error, AttributeError) and _NO_STATE.search(str(error)) is not None
    client, app = _idle_client(frames) if is_no_state or isinstance(error, NotRunning) else ("", None)
    if client == "TestClient":
        why, cure = "its `TestClient` was not entered", "`tenure_client`, or `tenure_session_client` for all tests"
    elif client and _is_at_rest(app):
        why = f"`{client}` sends requests and starts nothing"
        cure = "`tenure_async_client`, or `tenure_session_async_client` for all tests"
    else:
        return None
    user = _last_of_user(item, frames)
    path = [f"requested at  {_relative(item, user.f_code.co_filename)}:{user.f_lineno}"] if user is not None else []
    msg = f"`{item.name}` sent a request to an app that was not started: {why}"
    return NotStarted(msg, path=path, hint=f"take the fixture {cure}; or start the app: {_STARTERS}")


def _idle_client(frames: list[FrameType]) -> tuple[str, Any]:
    """Say what sent a request to an app that it did not start, and to which app."""
    for frame in frames:
        module, owner = frame.f_globals.get("__name__", ""), frame.f_locals.get("self")
        if module == "starlette.testclient":  # what is of a client has its method that gives the loop's portal
            client = getattr(getattr(owner, "portal_factory", None), "__self__", owner)
            if hasattr(client, "portal") and not hasattr(client, "exit_stack"):  # made when it is entered, and kept
                return "TestClient", client
        elif module.endswith("_transports.asgi"):
            return "ASGITransport", getattr(owner, "app", None)
    return "", None


def _is_at_rest(app: object) -> bool:
    """Tell whether tenure knows of no run of this app that goes on."""
    running = running_app(app) if isinstance(app, FastAPI) else None
    return running is None or getattr(running, "phase", "") in {"stopped", "failed"}


def _last_of_user(item: pytest.Item, frames: list[FrameType]) -> FrameType | None:
    """Give the innermost frame that lies in the project and in no package that is installed there."""
    mine = [frame for frame in frames if _is_in_project(item, frame.f_code.co_filename)]
    return mine[-1] if mine else None


def _is_in_project(item: pytest.Item, name: str) -> bool:
    path = Path(name)
    return path.is_relative_to(item.config.rootpath) and "site-packages" not in path.parts


def _where(function: Any) -> str:  # noqa: ANN401 (any fixture)
    code = getattr(function, "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code is not None else ""


def _relative(item: pytest.Item, name: str) -> str:
    return str(Path(name).relative_to(item.config.rootpath))
