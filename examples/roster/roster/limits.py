"""What one client may ask for: the size of a request's body, and how often a user is changed."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Annotated

import structlog
from fastapi import Depends, HTTPException, Request

from roster.problems import Problem, answer
from roster.settings import CurrentSettings
from tenure import Cache
from tenure.errors import StateFull, StateUnavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log: structlog.stdlib.BoundLogger = structlog.get_logger("roster")

LARGEST_BODY = 64 * 1024
"""Bytes; the longest bio is some 12,000 when each character is escaped."""
LARGEST_AVATAR = 1024 * 1024
"""Bytes of an image."""
WINDOW = 60
"""Seconds in which writes are counted: a minute by the clock, so that its end is known."""
HOME = 64
"""How many bits of an IPv6 address its owner was given: the rest is theirs to choose, for each request anew."""

writes = Cache("writes", scope="host", ttl=WINDOW)


async def clock() -> float:
    """Tell the time, in seconds."""
    return time.time()


async def few_writes(
    request: Request,
    writes: Annotated[Cache, Depends(writes)],
    settings: CurrentSettings,
    now: Annotated[float, Depends(clock)],
) -> None:
    """
    Count a write of a client, also one that is refused for another reason; one count for all workers of this machine.

    Where it cannot be counted it is let through, with a line in the log: the limit keeps one client from taking all
    there is, and to refuse everybody's writes for the lack of it would do just that.

    Raises:
        HTTPException: 429, for it is above the limit; `Retry-After` has the seconds to the end of the minute.
    """
    minute, second = divmod(now, WINDOW)
    client = _owner(request.client.host) if request.client else "unknown"
    try:
        count = await writes.increment(f"{client} {minute:.0f}")
    except (StateUnavailable, StateFull) as error:
        log.warning("a write was not counted", reason=error.message)
        return
    if count > settings.writes_per_minute:
        detail = f"at most {settings.writes_per_minute} writes in a minute from one address"
        raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(math.ceil(WINDOW - second))})


def _owner(host: str) -> str:
    """Give what stands for a client, however many addresses it has."""
    try:
        address = ip_address(host)
    except ValueError:  # a server on a unix socket names its clients as it likes
        return host
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or ip_network((int(address), HOME), strict=False))


class BodyLimit:
    """ASGI middleware that refuses a body which says that it is too large, or turns out to be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        largest = _largest(scope)
        if scope["type"] == "http" and _declared_length(scope) > largest:
            code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            refusal = answer(Problem(title=code.phrase, status=code, detail=_detail(largest)), {"Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _limited(receive, largest), send)


def _largest(scope: Scope) -> int:
    is_avatar = scope["type"] == "http" and scope["method"] == "PUT" and scope["path"].endswith("/avatar")
    return LARGEST_AVATAR if is_avatar else LARGEST_BODY


def _detail(largest: int) -> str:
    return f"a body has at most {largest} bytes"


def _declared_length(scope: Scope) -> int:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(length) if length.isdigit() else 0


def _limited(receive: Receive, largest: int) -> Receive:
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > largest:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _detail(largest))
        return message

    return limited
