"""Who holds what: the line of the program that asked, and the route on whose behalf a task runs."""

from __future__ import annotations

import sys
from traceback import walk_stack
from typing import TYPE_CHECKING, Any, TypeAlias

from tenure.calls import place
from tenure.fastapi.serving import frames_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import CodeType, FrameType

Site: TypeAlias = "tuple[tuple[str, int, str], ...]"
"""Frames of the program's own code, innermost first: file, line, function."""

LIBRARIES = frozenset(
    {
        *("_asyncio", "anyio", "asyncio", "contextlib", "fastapi", "starlette", "tenure", "uvicorn"),
        *("asyncpg", "httpx", "redis", "sqlalchemy"),
    }
)
LOOP = frozenset({"asyncio.base_events", "asyncio.events", "asyncio.runners"})
"""What runs tasks: frames beyond it have asked for nothing."""
_kinds: dict[CodeType, str] = {}
"""Whose each function is that was met, as there are but so many; asked for at each borrow."""
DEPTH = 6
FRAMES = 60
"""How many are looked at: what is farther away is the server's."""


def site(frame: FrameType | None = None) -> Site:
    """Give where the program asks for what the caller of this serves, or what `frame` does."""
    found: list[tuple[str, int, str]] = []
    frame = frame or sys._getframe(1)  # noqa: SLF001 (the cheap way: `inspect` reads source files)
    for _ in range(FRAMES):
        if frame is None or len(found) == DEPTH:
            break
        code = frame.f_code
        kind = _kinds.get(code)
        if kind is None:
            kind = _kinds[code] = _kind(frame.f_globals.get("__name__", ""))
        if kind == "loop":
            break
        if kind == "program":
            found.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(found)


def _kind(module: str) -> str:
    if module in LOOP:
        return "loop"
    return "library" if module.partition(".")[0] in LIBRARIES else "program"


def shown(where: Site) -> str:
    """Give ``file:line`` of the innermost frame."""
    return place(*where[0][:2]) if where else "unknown"


def traced(where: Site) -> str:
    """Give all frames, as a traceback shows them, outermost first."""
    return "\n".join(f"  {place(file, line)} in {function}" for file, line, function in reversed(where))


def route_of(task: asyncio.Task[Any] | None) -> str:
    """Give the request that a task serves, such as ``GET /users/{user_id}``, or the task's name if it serves none."""
    if task is None:
        return "no task"
    told = task.get_name()
    for frame in _frames(task):
        scope = frame.f_locals.get("scope")
        if isinstance(scope, dict) and scope.get("type") in {"http", "websocket"}:
            route = scope.get("route")  # there from the router on, in whichever copy of the scope that has
            told = f"{scope.get('method', 'WEBSOCKET')} {getattr(route, 'path', scope.get('path', ''))}"
            if route is not None:
                break
    return told


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Give the frames of a task, outermost first: as far as it awaits, or those of this stack if it is running."""
    if getattr(task.get_coro(), "cr_running", False):  # it is the one that asks
        return reversed([frame for frame, _ in walk_stack(sys._getframe())])  # noqa: SLF001 (as above)
    return frames_of(task.get_coro())
