"""A way to a server over TCP that falls silent when it is told to: nothing arrives, and nothing is closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter


class Proxy:
    """
    Forwards what comes to a port of its own; belongs to the event loop in which it was entered.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        dsn: The address of PostgreSQL by way of the proxy.
        open: How many connections lead through it now.
        kept: How many messages it keeps while it is silent.
    """

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = 0
        self.kept = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        user = quote(self._target.username or "postgres")
        self.dsn = urlunsplit(("postgresql", f"{user}@127.0.0.1:{self.port}", self._target.path, "sslmode=disable", ""))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fall_silent(self) -> None:
        """Keep what arrives from now on, in both directions."""
        self._flows.clear()

    def speak(self) -> None:
        """Forward again, first what was kept."""
        self._flows.set()

    def forget(self) -> None:
        """Forward nothing any more of the connections that there are, and close none of them; new ones are served."""
        self._flows, forgotten = asyncio.Event(), self._flows
        self._flows.set()
        forgotten.clear()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.open += 1
        flows = self._flows
        try:
            await flows.wait()
            onward, back = await self._connect()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, back, flows))
                    group.create_task(self._pump(onward, writer, flows))
            finally:
                back.close()
        except* (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _pump(self, reader: StreamReader, writer: StreamWriter, flows: asyncio.Event) -> None:
        while data := await reader.read(65536):
            self.kept += 1
            await flows.wait()
            self.kept -= 1
            writer.write(data)
            await writer.drain()
        raise EOFError  # one direction has ended: so does the other

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        host = self._target.hostname or parse_qs(self._target.query)["host"][0]
        port = self._target.port or int(parse_qs(self._target.query).get("port", ["5432"])[0])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


class ValkeyProxy(Proxy):
    """A way to a Valkey that listens on a unix socket."""

    @property
    def url(self) -> str:
        """The address by way of the proxy."""
        return f"valkey://127.0.0.1:{self.port}"

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        return await asyncio.open_unix_connection(unquote(self._target.path))
