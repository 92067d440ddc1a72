"""The size that a request's body may have."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from roster.problems import Problem, answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 64 * 1024
"""Bytes; the longest bio is some 12,000 when each character is escaped."""
DETAIL = f"a body has at most {LARGEST_BODY} bytes"


class BodyLimit:
    """ASGI middleware that refuses a body which says that it is too large, or turns out to be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "http" and _declared_length(scope) > LARGEST_BODY:
            code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            refusal = answer(Problem(title=code.phrase, status=code, detail=DETAIL), {"Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)


def _declared_length(scope: Scope) -> int:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(length) if length.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, DETAIL)
        return message

    return limited
