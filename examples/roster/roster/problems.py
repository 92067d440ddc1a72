"""Every error answer, in one form: RFC 9457's `application/problem+json`, with nothing of how the service is built."""

from __future__ import annotations

from collections import defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from roster.repository import UsernameTaken
from tenure.errors import LoadTimeout, StateUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error answer."""

    title: Annotated[str, Field(description="The status in words.")]
    status: int
    detail: Annotated[str, Field(description="What is wrong with this request.")]
    errors: Annotated[
        dict[str, list[str]], Field(description="What is wrong with each place in the request, such as `body.email`.")
    ] = {}


RETRY_AFTER = {
    "headers": {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}}
}
TRY_AGAIN = {
    status.HTTP_429_TOO_MANY_REQUESTS,
    status.HTTP_503_SERVICE_UNAVAILABLE,
    status.HTTP_504_GATEWAY_TIMEOUT,
}
"""The answers that say when to come again."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe error answers for OpenAPI, as a route's `responses` takes them."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {
        code: {"description": HTTPStatus(code).phrase, "content": content, **(RETRY_AFTER if code in TRY_AGAIN else {})}
        for code in statuses
    }


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Make the response."""
    return Response(problem.model_dump_json(exclude_defaults=True), problem.status, headers, MEDIA_TYPE)


async def http_problem(_: Request, error: Exception) -> Response:
    """Answer what a handler, a dependency or the router refused: 404, 405, 413, 503 and the like."""
    if not isinstance(error, HTTPException):
        raise error
    title = HTTPStatus(error.status_code).phrase
    return answer(Problem(title=title, status=error.status_code, detail=error.detail), error.headers)


async def invalid(_: Request, error: Exception) -> Response:
    """Answer a request whose path, query or body is not as documented; what was sent is not repeated."""
    if not isinstance(error, RequestValidationError):
        raise error
    errors: defaultdict[str, list[str]] = defaultdict(list)
    for found in error.errors():
        errors[".".join(map(str, found["loc"]))].append(found["msg"])
    code = HTTPStatus.UNPROCESSABLE_ENTITY
    return answer(Problem(title=code.phrase, status=code, detail="the request is not valid", errors=errors))


async def taken(_: Request, __: Exception) -> Response:
    """Answer 409 to a name that another user has."""
    code = HTTPStatus.CONFLICT
    return answer(Problem(title=code.phrase, status=code, detail="another user has this username"))


async def away(_: Request, __: Exception) -> Response:
    """Answer 503 where what the workers share does not answer, or not in time."""
    code = HTTPStatus.SERVICE_UNAVAILABLE
    detail = "what the workers share does not answer at the moment"
    return answer(Problem(title=code.phrase, status=code, detail=detail), {"Retry-After": "1"})


async def failed(_: Request, __: Exception) -> Response:
    """Answer 500 to a mistake of ours; the log has it."""
    code = HTTPStatus.INTERNAL_SERVER_ERROR
    return answer(Problem(title=code.phrase, status=code, detail="the service failed; the error has been logged"))


def install(app: FastAPI) -> None:
    """Answer every error of an app in this form."""
    app.add_exception_handler(HTTPException, http_problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UsernameTaken, taken)
    app.add_exception_handler(StateUnavailable, away)
    app.add_exception_handler(LoadTimeout, away)
    app.add_exception_handler(status.HTTP_500_INTERNAL_SERVER_ERROR, failed)
