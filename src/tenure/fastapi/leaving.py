"""Clients that leave before they are answered: where a route asks for it, the work for them ends."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request
from fastapi.requests import HTTPConnection  # noqa: TC002 (FastAPI reads annotations at run time)
from starlette.requests import ClientDisconnect

from tenure.cancellation import is_shielded
from tenure.fastapi.instances import FUNCTION_STACK, closed_in_peace, exit_stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from anyio import CancelScope
    from starlette.types import Message, Receive

WATCHED = "tenure_watched"
NAME = "cancel_on_disconnect"
STATUS = 499
"""What nginx, and others after it, write down for a request whose client did not wait for the answer."""
KEPT = 65_536
"""How many bytes of a body that nobody reads are kept while its client is watched."""
RETRY = 0.01
"""Seconds between two looks at whether what may not be interrupted has ended."""


async def cancel_on_disconnect(connection: HTTPConnection) -> None:
    """
    Cancel the handler when its client leaves, so that what it holds, and waits for, is free for others.

    Taken as `Depends(cancel_on_disconnect)` by a route, a router or an app. It holds from where it is solved, for the
    dependencies after it too, until the handler and its function-scoped dependencies have ended. What follows, a
    streamed body or a background task, is left to Starlette.

    The cancellation is asyncio's: one `CancelledError`, where the handler waits. It is held back while a thread runs
    for the request (so a `def` handler runs to its end), while a generator dependency is closed, and within shields of
    AnyIO's. Outwards the request ends with an `HTTPException` of status 499, which nobody hears.

    A websocket is let alone: its handler hears of the client that leaves by itself.

    Raises:
        UnsupportedFastAPI: FastAPI keeps the request's exit stacks where tenure does not know them.
    """
    if not isinstance(connection, Request):
        return
    stack = exit_stack(connection, FUNCTION_STACK, NAME)
    if connection.scope.get(WATCHED) is not stack:  # an app and its route may both ask, each in its own way
        connection.scope[WATCHED] = stack
        stack.push_async_exit(_Watch(connection, closed_in_peace(connection, NAME)))


class _Watch(AbstractAsyncContextManager[None, None]):
    """Cancels the task in which it is made when the client leaves, until it is exited."""

    def __init__(self, request: Request, outermost: CancelScope) -> None:
        self._task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment] # FastAPI runs in one
        self._cancelling_before = self._task.cancelling()
        self._outermost = outermost
        self._has_cancelled = False
        self._retry: asyncio.TimerHandle | None = None
        self._messages = _ReadAhead(request.receive, self._cancel)
        request._receive = self._messages.receive  # noqa: SLF001 (who reads the body must get what was read ahead)

    def _cancel(self) -> None:
        if is_shielded(self._task, self._outermost):
            self._retry = self._task.get_loop().call_later(RETRY, self._cancel)
        else:
            self._has_cancelled = self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._retry is not None:
            self._retry.cancel()
        is_ours = False
        if self._has_cancelled:  # the server may have cancelled it too, and is to see that it is done
            is_ours = self._task.uncancel() == self._cancelling_before and isinstance(error, asyncio.CancelledError)
        await self._messages.stop()
        del self._messages  # they know each other, and garbage must not wait for the collector
        if is_ours or isinstance(error, ClientDisconnect):  # which is what who reads the body may be told first
            raise HTTPException(STATUS, "Client Closed Request") from error


class _ReadAhead:
    """
    A request's messages, asked for before anyone reads them, since that the client has left is the last of them.

    Of a body that nobody reads, some is taken and kept; more is held up at the client, as ever.
    """

    def __init__(self, receive: Receive, on_end: Callable[[], None]) -> None:
        self._receive = receive
        self._on_end = on_end
        self._asked: deque[asyncio.Future[Message]] = deque()
        self._kept = 0
        self._is_whole = False
        self._is_over = False
        self._ask()

    async def receive(self) -> Message:
        """Give the next message, as the server's own `receive` does."""
        if not self._asked:
            return await self._receive()
        message = await asyncio.shield(self._asked[0])  # a reader that gives up leaves it to the next
        if message["type"] == "http.request":
            self._asked.popleft()
            self._kept -= len(message.get("body", b""))
            self._ask()
        return message

    async def stop(self) -> None:
        """Ask no more, and leave the server's `receive` to others."""
        self._is_over = True
        if self._asked and not self._asked[-1].done():
            asked = self._asked.pop()
            asked.cancel()
            await asyncio.wait([asked])

    def _ask(self) -> None:
        is_asking = self._asked and not self._asked[-1].done()
        if not (is_asking or self._is_over or self._kept >= KEPT):
            asked = asyncio.ensure_future(self._receive())
            asked.add_done_callback(self._answered)
            self._asked.append(asked)

    def _answered(self, asked: asyncio.Future[Message]) -> None:
        if asked.cancelled() or asked.exception() or self._is_over:  # an error is for who reads
            self._is_over = True
            return
        message = asked.result()
        if message["type"] == "http.disconnect":
            self._is_over = True
            self._on_end()
            return
        self._kept += len(message.get("body", b""))
        self._is_over = self._is_whole  # a server that has more to say after the whole body would say it for ever
        self._is_whole = not message.get("more_body")
        self._ask()
