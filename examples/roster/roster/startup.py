"""How a start that failed is told: in the error's own words, which hold the cure, instead of a page of traceback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tenure.errors import TenureError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PlainStartFailure:
    """ASGI middleware that shortens what the server is told, and then logs, when tenure could not start the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; only the app's lifespan is touched."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def plain(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed" and isinstance(error := sys.exception(), TenureError):
                message = {**message, "message": str(error)}
            await send(message)

        await self._app(scope, receive, plain)
