"""Why a test failed, where its error does not say so: the app was not started, or belongs to another loop."""

from __future__ import annotations

import asyncio
import re
from inspect import isasyncgenfunction, iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from tenure.belonging import running_app
from tenure.errors import NotRunning, NotStarted, OtherLoop, TenureError
from tenure.pytest_plugin.runs import ASYNCIO_LOOP, loop_scope, place, runs_in_asyncio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    import pytest

_OTHER_LOOP = re.compile(r"attached to a different loop|is bound to a different event loop")
_IN_USE = "another operation is in progress"
_NO_STATE = re.compile(r"'State' object has no attribute '(\w+)'")
_MISSING = object()
_STARTERS = "`with TestClient(app) as client:` or `async with running(app):`"


def explain(item: pytest.Item, error: BaseException) -> TenureError | None:
    """Give what a failed test is to be told beside its error, if that is one that this module knows."""
    for each in _all_of(error):
        frames = list(_frames(each))
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
    is_asyncio = runs_in_asyncio(item)
    own = loop_scope(item) if is_asyncio else ""
    path = [f"`{item.name}`{f' runs in a loop of the {own}' if own else ''}  {place(item)}"]
    others, in_threads = [], []
    for name, fixture in _fixtures(item):
        where = _where(fixture.func)
        if _is_test_client(fixture):
            in_threads.append(name)
            path.append(f"`{name}` has a loop of its own, in a thread  {where}")
        elif isasyncgenfunction(fixture.func) or iscoroutinefunction(fixture.func):
            scope = _fixture_loop_scope(item, fixture) if is_asyncio else ""
            path.append(f"`{name}` runs in a loop of the {scope or fixture.scope}  {where}")
            if is_asyncio and scope != own:
                others.append((name, scope))
    culprit = _last_of_user(item, frames)
    if culprit is not None:
        path.append(f"used at  {_relative(item, culprit.f_code.co_filename)}:{culprit.f_lineno}")
    if others:
        name, scope = others[0]
        loops = ASYNCIO_LOOP.replace("session", scope)
        hint = f"let the test run in the loop of `{name}`: {loops}"
    elif in_threads:
        hint = f"ask the app of `{in_threads[0]}` by requests alone, or run it in the test's loop: `tenure_scope` and \
`tenure_async_client`"
    else:
        hint = (
            f'what was made in another test, or when a module was imported, is of another loop: make it a dependency, \
`@scoped("app")`, of which each run of the app has its own; or run all tests that use it in one loop: {_one_loop(own)}'
        )
    return OtherLoop(f"`{item.name}` uses what belongs to another event loop", path=path, hint=hint)


def _one_loop(own: str) -> str:
    if own:
        return ASYNCIO_LOOP
    return "a session-scoped `anyio_backend`, and an async fixture of that scope, such as `tenure_session_scope`"


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
    said = getattr(fixture.func, "_loop_scope", None) or item.config.getini("asyncio_default_fixture_loop_scope")
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
            if getattr(client, "portal", _MISSING) is None:
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
