"""`ops_router`: what an app says of itself over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.requests import HTTPConnection  # noqa: TC002 (FastAPI reads it)
from fastapi.responses import HTMLResponse  # noqa: TC002 (likewise)

from tenure.errors import MissingExtra
from tenure.fastapi.environment import is_development
from tenure.ops.page import page
from tenure.ops.probes import METHODS, Names, Reader, application_of, health_of, probes
from tenure.ops.reports import NOT_STORED
from tenure.ops.startup import startup
from tenure.threads import in_spare_worker

try:
    from tenure.ops import metrics
except MissingExtra:
    metrics = None  # type: ignore[assignment] # there are none, and all else

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenure.ops.operations import Operations


def ops_router(
    *,
    prefix: str = "",
    details: Literal["auto", "always", "never"] = "auto",
    guard: Callable[..., Any] | None = None,
) -> APIRouter:
    """
    Give the routes by which an app tells how it is; include them, ``app.include_router(ops_router())``.

    ``/livez`` and ``/readyz`` are for whoever asks, such as Kubernetes. Below ``/ops`` there is something only in
    development (`FASTAPI_ENV` is ``development``, as `fastapi dev` has it) or with a guard.

    Args:
        prefix: What stands before each path.
        details: Whether it is told what each check said and which errors there were: to nobody, to anyone, or as soon
            as one may read below ``/ops``, and by the probes in development.
        guard: A dependency that refuses, by raising an `HTTPException`, who may not read below ``/ops``. A sync one
            needs a thread, as a sync handler does: what is told while all are busy needs an async one.
    """
    router = APIRouter(prefix=prefix, include_in_schema=False)
    development = is_development()
    router.include_router(probes(details=details == "always" or (details == "auto" and development)))
    if guard is not None or development:
        guards = [Depends(guard)] if guard is not None else []
        router.include_router(_pages(details=details != "never"), prefix="/ops", dependencies=guards)
    return router


def _pages(*, details: bool) -> APIRouter:
    pages = APIRouter()

    @pages.get("")
    async def shown() -> HTMLResponse:
        """Give the page that draws all of this; its files are read once, in a thread that is none of the handlers'."""
        return await in_spare_worker(page)

    @pages.api_route("/health", methods=METHODS)
    async def health(connection: HTTPConnection, reader: Reader, tag: Names = ()) -> Response:
        """Tell of all checks, or of those of some groups."""
        return health_of(connection, reader, tag, details=details)

    @pages.get("/graph.json")
    async def graph(reader: Reader) -> Response:
        """Tell of this worker."""
        snapshot = _running(reader).snapshot()
        return _json((snapshot if details else snapshot.without_errors()).model_dump_json())

    @pages.get("/startup.json")
    async def startup_events(connection: HTTPConnection) -> Response:
        """Tell how this worker has started, or failed to."""
        application = application_of(connection)
        if application is None:
            raise _not_running()
        return _json(startup(application).model_dump_json())

    @pages.get("/workers.json")
    async def workers(reader: Reader) -> Response:
        """Tell of all workers of this machine, each as `graph.json` does; those that do not answer by number."""
        found = await _running(reader).snapshots()
        answered = (each for each in found if not isinstance(each, int))
        told = ",".join((each if details else each.without_errors()).model_dump_json() for each in answered)
        silent = ",".join(str(each) for each in found if isinstance(each, int))
        return _json(f'{{"schemaVersion":1,"workers":[{told}],"silent":[{silent}]}}')

    if metrics is not None:
        pages.include_router(metrics.metrics_router())
    return pages


def _running(reader: Operations | None) -> Operations:
    if reader is None:
        raise _not_running()
    return reader


def _not_running() -> HTTPException:
    return HTTPException(503, "the app does not run", {"Retry-After": "1"})


def _json(content: str) -> Response:
    return Response(content, media_type="application/json", headers=NOT_STORED)
