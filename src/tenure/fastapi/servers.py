"""The server that runs an app, as far as it shows: its name, its limits, how it ends when the app does not start."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from tenure.signals import Handler


def name_of_server(lifespan: asyncio.Task[Any]) -> str:
    """Name the package whose coroutine runs an app's lifespan in a task of its own."""
    frame = getattr(lifespan.get_coro(), "cr_frame", None)
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    return str(module).partition(".")[0] or "the server"


def graceful_timeout() -> float | None:
    """
    Give the seconds after which gunicorn kills a worker that it has told to end, if this is one.

    It is read from what has called us, in the event loop that the worker runs.
    """
    frame = sys._getframe()  # noqa: SLF001 (there is no other way to ask)
    while frame := frame.f_back:  # type: ignore[assignment] # the outermost has none
        if str(frame.f_globals.get("__name__")).startswith(("gunicorn.", "uvicorn_worker.")):
            config = getattr(frame.f_locals.get("self"), "cfg", None)
            seconds = getattr(config, "graceful_timeout", None)
            if seconds is not None:
                return float(seconds)
    return None


def limit(server: Handler, seconds: float) -> None:
    """
    Bound uvicorn's wait for connections and requests, which has no end unless one is set.

    Only then does it go on although a handler swallows its cancellation, or a client does not read its answer.
    """
    config = _uvicorn(server)
    if getattr(config, "timeout_graceful_shutdown", seconds) is None:
        config.timeout_graceful_shutdown = seconds


def hides_failure(server: Handler) -> bool:
    """Tell whether a server's main process ends with status 0 although its workers did not start: uvicorn's does."""
    workers = getattr(_uvicorn(server), "workers", 1)
    processes = sys.modules.get("multiprocessing")  # loaded in what it has made
    return workers > 1 and processes is not None and processes.parent_process() is not None


def _uvicorn(server: Handler) -> Any:  # noqa: ANN401 (uvicorn's own)
    """Give the settings of uvicorn's server, whose method its handler is."""
    return getattr(getattr(server, "__self__", None), "config", None)
