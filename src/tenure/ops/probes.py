"""What balancers and orchestrators ask: whether this process is to be kept, and whether it is to get requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import APIRouter, Depends, Query, Response
from fastapi.requests import HTTPConnection  # noqa: TC002 (FastAPI reads it)

from tenure import belonging
from tenure.errors import NotStarted
from tenure.ops.operations import Operations, operations
from tenure.ops.reports import Report, liveness, parts_of, readiness, readiness_of, unknown

if TYPE_CHECKING:
    from tenure.fastapi.application import Application

METHODS = ["GET", "HEAD"]
"""FastAPI answers 405 to HEAD on a GET route, and some balancers probe with it."""

Reader = Annotated[Operations | None, Depends(operations)]
Flag = Annotated[str | None, Query()]
Names = Annotated[tuple[str, ...], Query()]


def probes(*, details: bool) -> APIRouter:
    """Give `/livez` and `/readyz`, which never ask anything themselves; with `details`, errors are told to anyone."""
    router = APIRouter()

    @router.api_route("/livez", methods=METHODS)
    async def livez(connection: HTTPConnection, reader: Reader, verbose: Flag = None) -> Response:
        report = liveness(application_of(connection), reader)
        return report.response("livez", details=details, verbose=verbose is not None)

    @router.api_route("/readyz", methods=METHODS)
    async def readyz(
        connection: HTTPConnection,
        reader: Reader,
        exclude: Names = (),
        verbose: Flag = None,
    ) -> Response:
        report = _readiness(connection, reader, exclude)
        return report.response("readyz", details=details, verbose=verbose is not None)

    @router.api_route("/readyz/{check:path}", methods=METHODS)
    async def readyz_of(connection: HTTPConnection, reader: Reader, check: str, verbose: Flag = None) -> Response:
        parts = parts_of(reader) if reader is not None else {}
        if reader is not None and check not in parts:
            report = unknown(f"there is no check {check!r}", parts)
        else:
            report = readiness_of(application_of(connection), parts.get(check))
        return report.response(f"readyz/{check}", details=details, verbose=verbose is not None)

    return router


def health_of(
    connection: HTTPConnection, reader: Operations | None, tags: tuple[str, ...], *, details: bool
) -> Response:
    """Answer with all checks, or with those of some groups."""
    parts = parts_of(reader) if reader is not None else {}
    if tags and reader is not None:
        known = sorted({tag for part in parts.values() for tag in part.own["tags"]})
        if strange := [tag for tag in tags if tag not in known]:
            return unknown(f"there is no group {strange[0]!r}", known).response("health", details=details)
    chosen = [part for part in parts.values() if not tags or set(tags) & set(part.own["tags"])]
    report = readiness(application_of(connection), chosen if reader is not None else None)
    return report.response("health", details=details)


def application_of(connection: HTTPConnection) -> Application | None:
    """Give the app that serves a request, as far as it was started here."""
    try:
        found = cast("Application", belonging.find(connection, operations.name))
    except NotStarted:
        return None
    return found if found.here or found.phase in {"stopped", "failed"} else None


def _readiness(connection: HTTPConnection, reader: Operations | None, exclude: tuple[str, ...]) -> Report:
    application = application_of(connection)
    if reader is None:
        return readiness(application, None)
    parts = parts_of(reader)
    strange = [name for name in exclude if name not in parts]
    notes = [f"there is no check {', '.join(strange)} to leave out"] if strange else []
    return readiness(application, [part for part in parts.values() if part.name not in exclude], notes)
