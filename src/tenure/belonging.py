"""Which running app a request belongs to: by the lifespan state, else by the app and the event loop."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from tenure.errors import NotStarted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Iterable, Mapping

    from fastapi import FastAPI
    from starlette.requests import HTTPConnection

    from tenure.resources import Resource

STATE = "tenure"
"""The key in the lifespan state under which a running app is kept."""

NOT_STARTED_HINT = (
    "give the app tenure's lifespan, `FastAPI(lifespan=lifespan)`; "
    "in tests run it, `with TestClient(app) as client:` or `async with running(app):`"
)


class Running(Protocol):
    """An app whose resources are started, as far as a resource needs to know it."""

    @property
    def here(self) -> bool:
        """Whether it runs in this process and event loop now."""
        ...

    def solve(self, resource: Resource[Any], connection: HTTPConnection, inputs: Mapping[str, Any]) -> Awaitable[Any]:
        """Give the resource's value for this connection."""
        ...


_by_app: WeakKeyDictionary[FastAPI, list[Running]] = WeakKeyDictionary()


def register(apps: Iterable[FastAPI], running: Running) -> None:
    """Remember that these apps, an outer one and those mounted in it, are run by `running`."""
    for app in apps:
        _by_app.setdefault(app, []).append(running)


def unregister(apps: Iterable[FastAPI], running: Running) -> None:
    """Forget it again; the last one stays, closed, so that a later use is told that it comes too late."""
    for app in apps:
        runs = _by_app.get(app, [])
        if len(runs) > 1 and running in runs:
            runs.remove(running)


def running_app(app: FastAPI) -> Running | None:
    """Give what runs this app: in this process and event loop if there is one, else the latest that did."""
    runs = _by_app.get(app)
    if not runs:
        return None
    return next((run for run in reversed(runs) if run.here), runs[-1])


_starting: ContextVar[Running] = ContextVar("tenure_starting")


@contextmanager
def started_by(running: Running) -> Generator[None]:
    """Let what starts in this block, and the tasks that it creates, know by which app it is started."""
    token = _starting.set(running)
    try:
        yield
    finally:
        _starting.reset(token)


def starting_app() -> Running:
    """Give what starts the resource that asks, in its factory."""
    return _starting.get()


def find(connection: HTTPConnection, name: str) -> Running:
    """
    Give the running app that a connection belongs to.

    Raises:
        NotStarted: No app of the connection has been started by tenure's lifespan.
    """
    running: Running | None = connection.scope.get("state", {}).get(STATE)
    app = connection.scope.get("app")
    if running is None and app is not None:
        running = running_app(app)
    if running is None:
        msg = f"`{name}` was asked for by a request, but its app was not started"
        raise NotStarted(msg, hint=NOT_STARTED_HINT)
    return running
