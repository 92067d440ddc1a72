"""The app in processes of its own, under the servers that people run, and what is seen of it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.faults.pools.settings import SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROOT = Path(__file__).parents[3]
APPS = {
    "asyncpg": "tests.faults.pools.app:app",
    "sqlalchemy": "tests.faults.pools.app:app",
    "sqlalchemy-sync": "tests.faults.pools.sync_app:app",
}
UVICORN = "uvicorn {app} --port {port} --no-access-log --timeout-worker-healthcheck 60"
GUNICORN = "gunicorn {app} --bind 127.0.0.1:{port} -k uvicorn_worker.UvicornWorker --preload"
DEADLINE = 30
"""Seconds after which something that ends by itself counts as hanging, on a machine that may be busy."""
STARTS = 120
"""Seconds that the start of a dozen workers may take there."""


async def until(
    condition: Callable[[], Awaitable[object]], told: Callable[[], object] = lambda: None, deadline: float = DEADLINE
) -> float:
    """Wait until something is so, and give the seconds that it took."""
    begin = time.monotonic()
    while not await condition():
        assert time.monotonic() - begin < deadline, told()
        await asyncio.sleep(0.01)
    return time.monotonic() - begin


class Served:
    """
    An app that is served.

    Attributes:
        client: Asks it.
        process: The server's main process.
        observer: A connection to PostgreSQL, beside the app's.
        stack: Ends what a test has opened.
    """

    def __init__(self, folder: Path, port: int, observer: asyncpg.Connection, stack: AsyncExitStack) -> None:
        self.observer = observer
        self.stack = stack
        self.name = f"faults {port}"
        self._port = port
        self._output, self._log = folder / f"{port}.output", folder / f"{port}.log"

    async def start(self, command: str, environment: dict[str, str]) -> Self:
        """Start it, without waiting until it answers."""
        self.client = await self.stack.enter_async_context(self.asking())
        with self._output.open("wb") as output, self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *command.split(),
                cwd=ROOT,
                env={**os.environ, "NAME": self.name, "XDG_RUNTIME_DIR": str(self._log.parent), **environment},
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def log(self) -> str:
        """What the server and the library wrote."""
        return self._log.read_text()

    def said(self, line: str) -> list[int]:
        """Tell which workers have said something, once for each time."""
        return [int(worker) for worker in re.findall(rf"^(\d+) {line}$", self._output.read_text(), re.MULTILINE)]

    async def until_said(self, line: str, times: int) -> None:
        """Wait until it was said so often."""

        async def is_said() -> bool:
            assert self.process.returncode is None, self.log
            return len(self.said(line)) >= times

        await until(is_said, lambda: self.log, STARTS)

    async def until_answering(self, workers: int) -> Self:
        """Wait until all workers have started, and one answers."""
        await self.until_said("opened", workers)

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                return (await self.client.get("/ready")).is_success
            return False

        await until(answers, lambda: self.log)
        return self

    def asking(self) -> httpx.AsyncClient:
        """Give another client."""
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", timeout=DEADLINE, limits=limits)

    async def sends(self, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request on a connection of its own, and do not wait for the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.stack.callback(writer.close)
        writer.write(f"{request} HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        return reader, writer

    async def connects(self, path: str) -> ClientConnection:
        """Open a websocket."""
        opening = connect(f"ws://127.0.0.1:{self._port}{path}", open_timeout=DEADLINE, ping_interval=None)
        return await self.stack.enter_async_context(opening)

    async def ready(self) -> dict[str, Any]:
        """Ask how the pool is doing."""
        answer = await self.client.get("/ready")
        assert answer.status_code == 200
        return dict(answer.json())

    async def until_under_way(self, **counts: int) -> None:
        """Wait until so much of each kind is under way."""
        expected = {kind.replace("_", " "): count for kind, count in counts.items()}

        async def is_under_way() -> bool:
            under_way = (await self.ready())["under_way"]
            return all(under_way.get(kind, 0) == count for kind, count in expected.items())

        await until(is_under_way, lambda: self.log)

    async def sessions(self, state: str = "%", worker: int | str = "%") -> set[int]:
        """Give the server's own list of the app's connections."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1 AND state LIKE $2"
        return {row["pid"] for row in await self.observer.fetch(query, f"{self.name} {worker}", state)}

    async def until_all_idle(self) -> None:
        """Wait until nobody has a connection, as the app and PostgreSQL see it."""

        async def are_idle() -> bool:
            sessions = await self.sessions()
            idle = await self.sessions("idle")
            return (await self.ready())["in_use"] == 0 and sessions == idle and len(idle) <= SIZE

        await until(are_idle, lambda: self.log)

    async def exits(self) -> float:
        """Send SIGTERM, wait until it has exited, and give the seconds that it took."""
        begin = time.monotonic()
        self.process.terminate()
        await asyncio.wait_for(self.process.wait(), DEADLINE)
        return time.monotonic() - begin

    async def stop(self) -> None:
        """End it and its workers, whatever they do."""
        if self.process.returncode is None:
            self.process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), DEADLINE)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


class Server:
    """Starts the app over one kind of pool, in a folder for its logs, on a port."""

    def __init__(self, kind: str, folder: Path, port: int, dsn: str) -> None:
        self.kind = kind
        self._folder = folder
        self._port = port
        self._dsn = dsn

    @asynccontextmanager
    async def serving(
        self, command: str = UVICORN, workers: int = 1, dsn: str | None = None, by: str | None = None, **knobs: float
    ) -> AsyncIterator[Served]:
        """
        Serve the app until the block ends, on an empty table whose rows take 20 ms to commit, or fail to.

        Args:
            command: How.
            workers: How many that are.
            dsn: Where PostgreSQL is.
            by: The address by which the app finds it, if it is another.
            knobs: Settings of the pool.
        """
        observer = await asyncpg.connect(dsn or self._dsn)
        await observer.execute(TABLE)
        command = command.format(app=APPS[self.kind], port=self._port)
        environment = {
            "DSN": by or dsn or self._dsn,
            "KNOBS": json.dumps(knobs),
            "POOL": self.kind,
            "WEB_CONCURRENCY": str(workers),
        }
        try:
            async with AsyncExitStack() as stack:
                served = await Served(self._folder, self._port, observer, stack).start(command, environment)
                try:
                    yield await served.until_answering(workers)
                finally:
                    await stack.aclose()
                    await served.stop()
        finally:
            observer.terminate()


TABLE = """
    DROP TABLE IF EXISTS written;
    CREATE TABLE written (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE OR REPLACE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_sleep(0.02);
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION slow_commit();
"""
