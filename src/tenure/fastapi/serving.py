"""What an app is serving: found among the event loop's tasks when it is asked for, at no cost to a request."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import sysconfig
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette

from tenure.calls import place
from tenure.factories import without_partial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    from fastapi import FastAPI
    from starlette.types import Scope, Send

_ENTRY: CodeType | None = getattr(inspect.unwrap(Starlette.__call__), "__code__", None)
_PARAMETERS = ("self", "scope", "receive", "send")
_LIBRARIES = (
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    str(Path(__file__).parents[1]),
)
_DEEPEST = 1000
"""How many awaits are followed; what awaits itself must not be followed for ever."""


@dataclass(frozen=True)
class Serving:
    """
    A request or websocket that an app is serving.

    Attributes:
        task: The server's task, in which the app was called.
        scope: What the app was called with.
        send: Likewise.
    """

    task: asyncio.Task[Any]
    scope: Scope
    send: Send

    @property
    def label(self) -> str:
        """What a reader calls it: its method, and the path of its route as far as it has got there."""
        route = getattr(self.scope.get("route"), "path", None)
        path = self.scope["path"] if route is None else f"{self.scope.get('root_path', '')}{route}"
        return f"{self.scope.get('method', 'WEBSOCKET')} {path}"


class Tasks:
    """All tasks of this event loop, as they stand when it is made."""

    def __init__(self) -> None:
        self._below: dict[int | None, list[anyio.TaskInfo]] = {}
        for info in anyio.get_running_tasks():
            self._below.setdefault(info.parent_id, []).append(info)

    def in_thread(self, task: asyncio.Task[Any]) -> str:
        """Give ``file:line`` at which a task runs something in a thread, if it does; else nothing."""
        functions = (_threaded(frame) for frame in self._frames(task))
        code = next((code for function in functions if (code := getattr(function, "__code__", None))), None)
        return _at(_innermost(_frames_in_thread(code))) if code is not None else ""

    def stands_at(self, task: asyncio.Task[Any]) -> str:
        """Give ``file:line`` at which a task waits, or one of its task groups does: in the user's code, if there."""
        return _at(_innermost(self._frames(task)))

    def _frames(self, task: asyncio.Task[Any]) -> list[FrameType]:
        coroutines: list[Any] = [task.get_coro()]
        parents = [id(task)]
        for parent in parents:
            below = self._below.get(parent, [])
            coroutines += [info.coro for info in below]
            parents += [info.id for info in below]
        return [frame for coroutine in coroutines for frame in frames_of(coroutine)]


def is_known() -> bool:
    """Tell whether Starlette calls an app as it does where requests can be found."""
    return _ENTRY is not None and _ENTRY.co_varnames[: len(_PARAMETERS)] == _PARAMETERS


def serving(app: FastAPI | None) -> list[Serving]:
    """Give what an app, mounted ones included, is serving in this event loop."""
    tasks = asyncio.all_tasks() if is_known() else ()
    found = ((task, _called(app, task)) for task in tasks)
    return [
        Serving(task, called["scope"], called["send"])
        for task, called in found
        if called and called["scope"]["type"] != "lifespan"
    ]


def has_server(app: FastAPI | None, task: asyncio.Task[Any]) -> bool:
    """Tell whether a task is one in which a server runs the app's lifespan."""
    called = _called(app, task) if is_known() else {}
    return bool(called) and called["scope"]["type"] == "lifespan"


def _called(app: FastAPI | None, task: asyncio.Task[Any]) -> dict[str, Any]:
    """Give what an app was called with in a task, if it was."""
    called = (frame.f_locals for frame in frames_of(task.get_coro()) if frame.f_code is _ENTRY)
    return next((each for each in called if each["self"] is app), {})


def frames_of(awaitable: object) -> Iterator[FrameType]:
    """Give the frames of what a task runs, of what that awaits, and so on: outermost first."""
    frames = (_frame(each) for each in islice(_followed(awaitable), _DEEPEST))
    return (frame for frame in frames if frame is not None)


def _followed(awaitable: object) -> Iterator[object]:
    while awaitable is not None:
        yield awaitable
        match awaitable:
            case CoroutineType():
                awaitable = awaitable.cr_await
            case GeneratorType():
                awaitable = awaitable.gi_yieldfrom
            case AsyncGeneratorType():
                awaitable = awaitable.ag_await
            case _:  # a step of an async generator, which names it nowhere else
                below = gc.get_referents(awaitable)
                awaitable = next((each for each in below if isinstance(each, AsyncGeneratorType)), None)


def _frame(awaited: object) -> FrameType | None:
    match awaited:
        case CoroutineType():
            return awaited.cr_frame
        case GeneratorType():
            return awaited.gi_frame
        case AsyncGeneratorType():
            return awaited.ag_frame
        case _:
            return None


def _threaded(frame: FrameType) -> Any:  # noqa: ANN401 (any function)
    """Give the function that anyio runs in a thread there, if it does."""
    function = frame.f_locals.get("func") if frame.f_code.co_name == "run_sync_in_worker_thread" else None
    return without_partial(function) if function is not None else None


def _frames_in_thread(code: CodeType) -> list[FrameType]:
    """Give the frames that some code has called, itself first, in the first thread that runs it."""
    for top in sys._current_frames().values():  # noqa: SLF001 (there is no other way to ask)
        frames: list[FrameType] = []
        frame: FrameType | None = top
        while frame is not None:
            frames.insert(0, frame)
            if frame.f_code is code:
                return frames
            frame = frame.f_back
    return []


def _innermost(frames: list[FrameType]) -> FrameType | None:
    """Give the last of frames that is the user's, else the last."""
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_LIBRARIES)]
    return next(reversed(own or frames), None)


def _at(frame: FrameType | None) -> str:
    return place(frame.f_code.co_filename, frame.f_lineno) if frame is not None else "an unknown place"
