"""What OpenTelemetry is told of pools, by the semantic conventions' names, whatever connections they lend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from contextvars import Context
from typing import Any, TypeAlias

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.orm import Session

from tenure import Resource, lifespan, running, scoped
from tenure.host.postgres import EmbeddedPostgres
from tenure.host.valkey import EmbeddedValkey
from tenure.pools import asyncpg, sqlalchemy, valkey
from tenure.pools import httpx as clients
from tenure.pools.errors import PoolExhausted, Unreachable
from tests.roster.service import reachable_folder
from tests.telemetry.keeping import Kept
from tests.waiting import until

POOL, STATE = "db.client.connection.pool.name", "db.client.connection.state"
SIZE = 2
HOLDING: TypeAlias = Callable[[AsyncExitStack, Any], Awaitable[None]]
"""Borrows a connection until the stack is closed."""


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """Run a PostgreSQL, and give its address."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield server.dsn()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Valkey, and give its address."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url()


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """Run a service that begins an answer and ends it when it is closed, and give its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def by_asyncpg(stack: AsyncExitStack, pool: asyncpg.Pool) -> None:
    """Hold one."""
    connection = await stack.enter_async_context(pool.borrow(separate=True))
    await connection.fetchval("SELECT 1")


async def by_engine(stack: AsyncExitStack, pool: Any) -> None:
    """Hold one."""
    connection = await stack.enter_async_context(pool.engine.connect())
    await connection.execute(text("SELECT 1"))


async def by_session(stack: AsyncExitStack, pool: Any) -> None:
    """Hold one, which a thread takes."""
    session = await stack.enter_async_context(pool.session())
    await asyncio.to_thread(session.execute, text("SELECT 1"))


async def by_client(stack: AsyncExitStack, client: httpx.AsyncClient) -> None:
    """Hold one, as long as an answer is not read."""
    await stack.enter_async_context(client.stream("GET", "/"))


async def by_subscription(stack: AsyncExitStack, client: valkey.Client) -> None:
    """Hold one."""
    subscription = client.pubsub()
    await subscription.subscribe("news")
    stack.push_async_callback(subscription.aclose)


KINDS: dict[str, HOLDING] = {
    "asyncpg": by_asyncpg,
    "engine": by_engine,
    "sync engine": by_session,
    "httpx": by_client,
    "valkey": by_subscription,
}


def declared(kind: str, dsn: str, url: str, upstream: str) -> tuple[Resource[Any], Resource[Any]]:
    """Declare a pool; give what it is used by, and the pool."""
    knobs: dict[str, Any] = {"max_size": SIZE, "acquire_timeout": 1.0, "name": "numbered"}
    made: Any
    match kind:
        case "asyncpg":
            made = asyncpg.pool(dsn, **knobs)
            return made, made
        case "engine":
            made = sqlalchemy.engine(dsn, **knobs)
            return made.pool, made.pool
        case "sync engine":
            made = sqlalchemy.sync_engine(dsn, **knobs)
            return made.pool, made.pool
        case "httpx":
            made = clients.client(upstream, **knobs)
        case _:
            made = valkey.client(url, **knobs)
    return made, made.pool


@pytest.mark.parametrize("kind", KINDS)
async def test_a_pool_is_told_by_the_names_of_the_conventions(kind: str, dsn: str, url: str, upstream: str) -> None:
    """Its connections by state, its bound, who waits, who waited in vain; how long borrowers waited and used one."""
    kept = Kept()
    used_by, pool = declared(kind, dsn, url, upstream)
    app = FastAPI(lifespan=lifespan(also=[used_by]), telemetry=kept.telemetry)

    def one(metric: str) -> Any:
        (point,) = kept.points(metric)
        return point

    def by_state() -> dict[str, int]:
        return {point.attributes[STATE]: point.value for point in kept.points("db.client.connection.count")}

    async with running(app) as scope:
        user, name = await scope.get(used_by), (await scope.get(pool)).name
        before = {metric: sum(p.count for p in kept.points(metric)) for metric in TIMES}
        async with AsyncExitStack() as stack:
            for _ in range(SIZE):
                await KINDS[kind](stack, user)
            assert by_state()["used"] == SIZE
            assert one("db.client.connection.max").value == SIZE
            late = asyncio.create_task(KINDS[kind](stack, user), context=Context())  # which holds nothing
            await until(lambda: one("db.client.connection.pending_requests").value == 1)
            with pytest.raises(PoolExhausted):
                await late
            assert one("db.client.connection.timeouts").value == 1
        await until(lambda: by_state()["used"] == 0)
        assert one("db.client.connection.pending_requests").value == 0
        after = {metric: one(metric) for metric in TIMES}
        assert {metric: after[metric].count - before[metric] for metric in TIMES} == dict.fromkeys(TIMES, SIZE)
        assert {point.attributes[POOL] for point in after.values()} == {name}
    assert kept.points("db.client.connection.count") == []


TIMES = ("db.client.connection.wait_time", "db.client.connection.use_time")


async def test_a_wait_for_a_server_that_is_away_is_none_that_ended_well() -> None:
    """Where a connection cannot be opened, neither a wait nor a use nor a timeout is told, and its place is free."""
    kept = Kept()
    database = asyncpg.pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=SIZE)
    app = FastAPI(lifespan=lifespan(also=[database]), telemetry=kept.telemetry)
    async with running(app) as scope:
        pool = await scope.get(database)
        with pytest.raises(Unreachable):
            async with pool.borrow():
                pass
        assert pool.stats.in_use == 0
        for metric in (*TIMES, "db.client.connection.timeouts"):
            assert kept.points(metric) == []


async def test_a_connection_that_is_taken_again_was_waited_for_once(dsn: str) -> None:
    """A session whose connection was ended by the server has another, at the same place: one wait and one use."""
    kept = Kept()
    database = sqlalchemy.sync_engine(dsn, min_size=0, max_size=SIZE)
    app = FastAPI(lifespan=lifespan(also=[database.pool]), telemetry=kept.telemetry)

    def work(session: Session) -> None:
        with pytest.raises(Unreachable):
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        session.rollback()
        session.execute(text("SELECT 1"))

    async with running(app) as scope:
        await (await scope.get(database.pool)).run(work)
        assert [point.count for metric in TIMES for point in kept.points(metric)] == [1, 1]


async def test_a_pool_that_has_closed_is_told_no_more(dsn: str) -> None:
    """What it needs closes after it, and sees nothing of it, although the app still closes."""
    kept, seen = Kept(), list[int]()

    @scoped("app")
    async def address() -> AsyncIterator[str]:
        yield dsn
        seen.append(len(kept.points("db.client.connection.max")))
        seen.append(len(kept.points("tenure.resource.state")))

    database = asyncpg.pool(address, max_size=SIZE)
    async with running(FastAPI(lifespan=lifespan(also=[database]), telemetry=kept.telemetry)):
        assert len(kept.points("db.client.connection.max")) == 1
    assert seen[0] == 0
    assert seen[1] > 0
