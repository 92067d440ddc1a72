"""Clients leave a real server: what they held in a real PostgreSQL is free at once, and others are answered."""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tenure import running
from tests.faults.leaving import NAME, app, pool

POOL = 5
CLIENTS = 60
CANCELLATIONS = 3_000
LONGEST = 0.03
"""Seconds after which a client leaves at the latest; a request that is not cancelled takes about 10 ms."""
DEADLINE = 20
"""Seconds that anything here may take on a busy machine; a handler would run on for a minute."""
SERVERS = {
    "uvicorn-h11": "uvicorn --loop asyncio --http h11 --port {port} tests.faults.leaving:app",
    "uvicorn-httptools": "uvicorn --loop uvloop --http httptools --port {port} tests.faults.leaving:app",
    "granian": "granian --interface asgi --port {port} tests.faults.leaving:app",
}


class Served:
    """The app in a process of its own, and what is seen of it from outside."""

    def __init__(self, client: httpx.AsyncClient, port: int, observer: asyncpg.Connection, log: Path) -> None:
        self.client = client
        self._port = port
        self._observer = observer
        self._log = log

    async def visits(self, request: str, body: bytes = b"") -> asyncio.StreamWriter:
        """Send a request, and do not wait for its answer."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"{request} HTTP/1.1\r\nhost: test\r\n".encode() + body)
        await writer.drain()
        return writer

    async def counts(self) -> dict[str, int]:
        """Give what the app counts."""
        return dict((await self.client.get("/counts")).json())

    async def counted(self, **expected: int) -> None:
        """Wait until the app has counted as many."""

        async def as_expected() -> bool:
            counts = await self.counts()
            return all(counts.get(name.replace("_", " ").strip(), 0) == count for name, count in expected.items())

        await until(as_expected)

    async def in_state(self, state: str) -> int:
        """Count the pool's connections that are in a state, as PostgreSQL sees them."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = $2"
        return int(await self._observer.fetchval(query, NAME, state))

    async def sleeping(self) -> bool:
        """Tell whether each connection of the pool runs a query that takes long."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event = 'PgSleep'"
        return bool(await self._observer.fetchval(query, NAME) == POOL)

    async def sessions(self) -> list[int]:
        """Give the processes of the pool's connections."""
        return await sessions(self._observer)

    async def rows(self) -> int:
        """Count the rows that were committed."""
        return int(await self._observer.fetchval("SELECT count(*) FROM written"))

    @property
    def errors(self) -> list[str]:
        """What the server's log says of errors."""
        return [line for line in self._log.read_text().splitlines() if "ERROR" in line or "Traceback" in line]


async def until(condition: Callable[[], Awaitable[bool]]) -> float:
    """Wait until something is so, and give the seconds that it took."""
    begin = time.monotonic()
    while not await condition():
        assert time.monotonic() - begin < DEADLINE
        await asyncio.sleep(0.005)
    return time.monotonic() - begin


async def sessions(observer: asyncpg.Connection) -> list[int]:
    """Give the processes of the pool's connections."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY pid"
    return [row["pid"] for row in await observer.fetch(query, NAME)]


@pytest.fixture
async def observer(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection beside the pool, with an empty table for what is written."""
    observer = await asyncpg.connect(dsn)
    await observer.execute("DROP TABLE IF EXISTS written")
    await observer.execute("CREATE TABLE written (id integer GENERATED ALWAYS AS IDENTITY)")
    yield observer
    await observer.close()


@asynccontextmanager
async def serving(dsn: str, server: str, port: int, observer: asyncpg.Connection, log: Path) -> AsyncIterator[Served]:
    """Serve the app until the block ends."""
    command = [sys.executable, "-m", *SERVERS[server].format(port=port).split()]
    with log.open("wb") as output:
        environment = {**os.environ, "DSN": dsn}
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=output, stderr=output)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:

            async def answers() -> bool:
                assert process.returncode is None
                with suppress(httpx.TransportError):
                    return (await client.get("/counts")).is_success
                return False

            await until(answers)
            yield Served(client, port, observer, log)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE)


@pytest.fixture
async def served(
    request: pytest.FixtureRequest, dsn: str, port: int, observer: asyncpg.Connection, tmp_path: Path
) -> AsyncIterator[Served]:
    """Serve the app with the server that the test names."""
    async with serving(dsn, request.param, port, observer, tmp_path / "log") as served:
        yield served


on_each_server = pytest.mark.parametrize("served", SERVERS, indirect=True)


@on_each_server
async def test_what_clients_held_is_free_when_they_have_left(served: Served) -> None:
    """Of 60 clients that left a pool of 5, none holds a connection or a place: the next is answered, all 5 are idle."""
    sessions = await served.sessions()
    clients = [await served.visits("GET /impatient?seconds=60", b"\r\n") for _ in range(CLIENTS)]
    await served.counted(under_way=CLIENTS)
    await until(served.sleeping)
    for client in clients:
        client.transport.abort()

    async def live() -> bool:
        return (await served.client.get("/live")).json() == 1

    async def all_idle() -> bool:
        return await served.in_state("idle") == POOL

    answered, idle = await asyncio.gather(until(live), until(all_idle))
    print(f"a live request was answered after {answered:.3f} s, all connections were idle after {idle:.3f} s")
    await served.counted(under_way=0, _499=CLIENTS)
    assert "ended" not in await served.counts()
    assert await served.rows() == 0
    assert [await live() for _ in range(20)] == [True] * 20
    assert await served.sessions() == sessions
    assert served.errors == []


@on_each_server
async def test_who_does_not_ask_for_it_works_to_the_end(served: Served) -> None:
    """On a route that does not take it, the handlers of clients that left end, and commit."""
    clients = [await served.visits("GET /patient?seconds=0.5", b"\r\n") for _ in range(POOL)]
    await until(served.sleeping)
    for client in clients:
        client.transport.abort()
    await served.counted(under_way=0, ended=POOL)
    assert await served.rows() == POOL
    assert served.errors == []


@on_each_server
async def test_an_upload_that_is_cut_off_is_no_error(served: Served) -> None:
    """A client that leaves in the middle of a body leaves nothing in the log; bodies of others arrive whole."""
    client = await served.visits("POST /upload", b"content-length: 1000000\r\n\r\n" + b"x" * 1_000)
    await served.counted(under_way=1, parts=1)
    client.transport.abort()
    await served.counted(under_way=0, _499=1)
    body = b"y" * 3_000_000
    assert (await served.client.post("/upload", content=body)).json() == len(body)
    assert served.errors == []


async def visit(leaves_after: float | None = None) -> int:
    """Ask the app for a row of a query of 3 ms, as a server does for a client, and give the status."""
    statuses: list[int] = []
    left = asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    query = b"seconds=0.003"
    scope = {"type": "http", "method": "GET", "path": "/impatient", "headers": [], "query_string": query}
    timer = None if leaves_after is None else asyncio.get_running_loop().call_later(leaves_after, left.set)
    await app(scope, receive, send)
    if timer:
        timer.cancel()
    return statuses[0]


async def leaves(after: float) -> bool:
    """Have the client leave."""
    return await visit(after) == 499


async def is_cancelled(after: float) -> bool:
    """Have the server cancel the request's task."""
    with suppress(TimeoutError):
        await asyncio.wait_for(visit(), after)
        return False
    return True


async def is_in_a_cancelled_scope(after: float) -> bool:
    """Have a cancel scope around the request cancelled, which cancels at each await."""
    with anyio.move_on_after(after) as scope:
        await visit()
    return scope.cancelled_caught


async def leaves_and_is_cancelled(after: float) -> bool:
    """Have the client leave, and the request's task cancelled at about the same time."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(visit(after), after + random.uniform(0, 0.001)) == 499  # noqa: S311 (seeded)
    return True


@pytest.mark.parametrize("cancelled", [leaves, is_cancelled, is_in_a_cancelled_scope, leaves_and_is_cancelled])
async def test_no_cancellation_costs_a_connection(
    cancelled: Callable[[float], Awaitable[bool]],
    dsn: str,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    After 3,000 cancellations at random moments no connection is out, none is new, and 20 of 20 are answered.

    What was answered is committed; of what a client left before it was, nothing is.
    """
    monkeypatch.setenv("DSN", dsn)
    moments = random.Random(1)  # noqa: S311 (the same moments each time)
    random.seed(1)
    async with running(app) as scope:
        opened = await scope.get(pool)
        assert [await visit() for _ in range(20)] == [200] * 20
        before, rows = await sessions(observer), await observer.fetchval("SELECT count(*) FROM written")
        ended: list[bool] = []
        for _ in range(CANCELLATIONS // 10):
            each = (cancelled(moments.uniform(0, LONGEST)) for _ in range(10))
            ended += await asyncio.gather(*each)
        print(f"{sum(ended)} of {CANCELLATIONS} were cancelled")

        async def all_idle() -> bool:
            return opened.get_idle_size() == opened.get_size() == POOL

        await until(all_idle)
        assert await sessions(observer) == before
        assert any(ended)
        committed = await observer.fetchval("SELECT count(*) FROM written") - rows
        unheard = 0 if cancelled is leaves else sum(ended)  # a task may be cancelled when its commit is done
        assert 0 <= committed - ended.count(False) <= unheard
        assert [await visit() for _ in range(20)] == [200] * 20
