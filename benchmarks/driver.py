"""A server in miniature: it starts an ASGI app's lifespan, and sends it requests without a socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.types import ASGIApp, Message

    from benchmarks.works import Work

HEADERS = [(b"host", b"localhost"), (b"user-agent", b"benchmarks"), (b"accept", b"*/*"), (b"x-name", b"ada")]
CONNECT = {"type": "websocket.connect"}
NO_BODY = {"type": "http.request", "body": b"", "more_body": False}


class WrongAnswer(Exception):
    """An app answered something else than the work says."""


def scope_for(work: Work, state: dict[str, Any]) -> dict[str, Any]:
    """Give the scope that uvicorn would give."""
    kind: dict[str, Any] = (
        {"type": "websocket", "scheme": "ws", "subprotocols": []}
        if work.websocket
        else {"type": "http", "scheme": "http", "method": "GET"}
    )
    return {
        **kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "path": work.path,
        "raw_path": work.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        "state": state,
    }


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncGenerator[dict[str, Any]]:
    """Run an app's lifespan as a server does, in a task of its own, and give the state that it left."""
    state: dict[str, Any] = {}
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    task = asyncio.ensure_future(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    await _complete(task, from_app)
    try:
        yield state
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await _complete(task, from_app)
        await task


async def _complete(task: asyncio.Future[None], from_app: asyncio.Queue[Message]) -> None:
    message: asyncio.Future[Message] = asyncio.ensure_future(from_app.get())
    both: list[asyncio.Future[Any]] = [task, message]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not message.done():
        message.cancel()
        await task
    if message.result()["type"].endswith(".failed"):
        await task
        raise RuntimeError(message.result())


class Client:
    """Sends the requests of a work to a started app, one after another, as one connection does."""

    def __init__(self, app: ASGIApp, work: Work, state: dict[str, Any]) -> None:
        self.app = app
        self.work = work
        self.scope = scope_for(work, {})
        self.state = state
        self.request = CONNECT if work.websocket else NO_BODY
        self.body_type = "websocket.send" if work.websocket else "http.response.body"

    async def send(self, requests: int) -> None:
        """
        Send requests.

        Raises:
            WrongAnswer: Not all of them were answered as the work says.
        """
        app, scope, state, request, body_type = self.app, self.scope, self.state, self.request, self.body_type
        expected = self.work.answer.encode()
        right = 0

        async def receive() -> Message:
            return request

        async def send(message: Message) -> None:
            nonlocal right
            if message["type"] == body_type and expected in (message.get("body") or message["text"].encode()):
                right += 1

        for _ in range(requests):
            await app({**scope, "state": state.copy()}, receive, send)
        if right != requests:
            msg = f"{requests - right} of {requests} requests were answered wrongly; {await self.answer()}"
            raise WrongAnswer(msg)

    async def answer(self, notice: Callable[[str], None] = lambda _: None) -> object:
        """Send one request, notice the type of each message of the answer, and give what it says in JSON."""
        messages: list[Message] = []

        async def receive() -> Message:
            return self.request

        async def send(message: Message) -> None:
            notice(message["type"])
            messages.append(message)

        await self.app({**self.scope, "state": self.state.copy()}, receive, send)
        return json.loads("".join(m.get("body", b"").decode() + (m.get("text") or "") for m in messages))
