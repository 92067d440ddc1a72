"""An app that is compared, as it is served, and what is seen of it from outside."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import httpx

from reliability.proxying import ProxyProcess
from reliability.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from tenure.host.postgres import EmbeddedPostgres

NAME = "compared"
POOL = 5
TABLE = """
    DROP TABLE IF EXISTS compared;
    CREATE TABLE compared (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE OR REPLACE FUNCTION compared_slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_sleep(0.02);
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER compared_slow AFTER INSERT ON compared DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION compared_slow();
"""
"""Its rows take 20 ms to commit, and it is the commit that finds that there is one already."""


@dataclass(frozen=True)
class Contender:
    """One way to write the app."""

    name: str
    app: str


WRITTEN = Contender("a lifespan by hand", "reliability.compare.apps.written:app")
TEMPLATE = Contender("full-stack-fastapi-template's session", "reliability.compare.apps.template:app")
OURS = Contender("tenure", "reliability.compare.apps.ours:app")
CONTENDERS = (WRITTEN, TEMPLATE, OURS)


@dataclass(frozen=True)
class Subject:
    """
    An app that is served by one worker of uvicorn.

    Attributes:
        server: Its process.
        proxy: Its way to PostgreSQL.
        observer: A connection to PostgreSQL, beside the app's and not by way of the proxy.
        client: Asks it.
    """

    server: Server
    proxy: ProxyProcess
    observer: asyncpg.Connection
    client: httpx.AsyncClient

    async def status(self, path: str, limit: float) -> tuple[int | None, float]:
        """Ask for a path; give the status, None for no answer within the limit, and the seconds that it took."""
        begin = time.monotonic()
        try:
            status: int | None = (await self.client.get(path, timeout=limit)).status_code
        except httpx.TimeoutException:
            status = None
        except httpx.TransportError:
            status = 0
        return status, time.monotonic() - begin

    async def send(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request on a connection of its own, and do not wait for the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
        await writer.drain()
        return reader, writer

    async def active(self) -> int:
        """Say how many of the app's connections are at work, as PostgreSQL sees it."""
        counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state <> 'idle'"
        return int(await self.observer.fetchval(counted, NAME))


@asynccontextmanager
async def serving(contender: Contender, folder: Path, database: EmbeddedPostgres) -> AsyncGenerator[Subject]:
    """Serve an app until the block ends, on an empty table."""
    observer = await asyncpg.connect(database.dsn())
    await observer.execute(TABLE)
    limits = httpx.Limits(max_connections=None)
    with ProxyProcess(database.dsn()) as proxy:
        address = f"{proxy.dsn}&application_name={NAME}"
        with Server(contender.app, folder, DATABASE_URL=address) as server:
            await asyncio.to_thread(server.until_ready)
            async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
                yield Subject(server, proxy, observer, client)
    await observer.close()


async def within(condition: Callable[[], Awaitable[object]], seconds: float) -> float | None:
    """Wait until something is so; give the seconds that it took, None for longer than it may."""
    begin = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.01)
            return time.monotonic() - begin
    return None
