"""Another service over HTTP that can be slow, silent, or break off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from asyncio import StreamReader, StreamWriter

HEAD = "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n"
LONG = 1_000_000


class Upstream:
    """
    Answers on a port of its own; belongs to the event loop in which it was entered.

    ``/echo/…`` answers its own path, ``/silent`` nothing, ``/drop`` ends the connection, ``/half`` does so in the
    middle of its answer, ``/trickle`` sends a byte at a time without end, and ``/redirect`` leads to itself.

    Attributes:
        url: Its address.
        accepted: How many connections there have been.
        open: How many there are.
        most: How many there were at once.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = self.open = self.most = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        scheme = "https" if self._context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                await self._answer(request.split(maxsplit=2)[1], reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, path: str, reader: StreamReader, writer: StreamWriter) -> None:
        match path.split("?", maxsplit=1)[0].split("/")[1]:
            case "silent":
                await reader.read()  # until the client has left
                raise EOFError
            case "drop":
                raise EOFError
            case "half":
                writer.write(f"{HEAD.format(status='200 OK', length=LONG)}half".encode())
                await writer.drain()
                raise EOFError
            case "trickle":
                writer.write(HEAD.format(status="200 OK", length=LONG).encode())
                while True:
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case "redirect":
                await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /redirect\r\nContent-Length: 0\r\n\r\n")
            case _:
                writer.write(f"{HEAD.format(status='200 OK', length=len(path))}{path[:5]}".encode())
                await asyncio.sleep(0.001)  # in two parts, for whoever is cancelled between them
                writer.write(path[5:].encode())
        await writer.drain()
