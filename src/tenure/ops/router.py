"""`ops_router`: what an app says of itself over HTTP."""

from __future__ import annotations

import os
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.responses import HTMLResponse

from tenure.ops.operations import Operations, operations

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT = "FASTAPI_ENV"
NOT_STORED = {"Cache-Control": "no-store"}

Reader = Annotated[Operations | None, Depends(operations)]


def ops_router(
    *,
    prefix: str = "",
    details: Literal["auto", "always", "never"] = "auto",
    guard: Callable[..., Any] | None = None,
) -> APIRouter:
    """
    Give the routes by which an app tells how it is; include them, ``app.include_router(ops_router())``.

    Below ``/ops`` there is something only in development (`FASTAPI_ENV` is ``development``, as `fastapi dev` has it)
    or with a guard.

    Args:
        prefix: What stands before each path.
        details: Whether health tells of each check: always, never, or as soon as one may read below ``/ops``.
        guard: A dependency that refuses, by raising an `HTTPException`, who may not read below ``/ops``.
    """
    del details
    router = APIRouter(prefix=prefix, include_in_schema=False)
    if guard is not None or is_development():
        router.include_router(_pages(), prefix="/ops", dependencies=[Depends(guard)] if guard is not None else [])
    return router


def is_development() -> bool:
    """Tell whether this is a developer's own run."""
    return os.environ.get(ENVIRONMENT) == "development"


def _pages() -> APIRouter:
    pages = APIRouter()

    @pages.get("")
    async def page() -> HTMLResponse:
        return HTMLResponse(files("tenure.ops").joinpath("page.html").read_text(encoding="utf-8"), headers=NOT_STORED)

    @pages.get("/graph.json")
    async def graph(reader: Reader) -> Response:
        """Tell of this worker."""
        return _json(_running(reader).snapshot().model_dump_json())

    @pages.get("/workers.json")
    async def workers(reader: Reader) -> Response:
        """Tell of all workers of this machine, each as `graph.json` does; those that do not answer by number."""
        found = await _running(reader).snapshots()
        told = ",".join(each.model_dump_json() for each in found if not isinstance(each, int))
        silent = ",".join(str(each) for each in found if isinstance(each, int))
        return _json(f'{{"schemaVersion":1,"workers":[{told}],"silent":[{silent}]}}')

    return pages


def _running(reader: Operations | None) -> Operations:
    if reader is None:
        raise HTTPException(503, "the app does not run", {"Retry-After": "1"})
    return reader


def _json(content: str) -> Response:
    return Response(content, media_type="application/json", headers=NOT_STORED)
