"""State that machines share, kept by way of the pool that the app has already."""

from typing import Annotated

import asyncpg
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from tenure import Cache, Counter, Lock, Topic, lifespan, running, scoped
from tenure.errors import DeclarationError, StartFailed
from tenure.pools.asyncpg import Connection, Pool, pool

writes = Cache("writes", scope="cluster", ttl=60)
report = Lock("report", scope="cluster")
news = Topic("news", scope="cluster")
visits = Counter("visits", scope="cluster", interval=0.1)
HANDLES = [writes, report, news, visits]


async def test_handles_use_the_pool_of_the_app(dsn: str) -> None:
    """Caches and locks open no connections of their own; a topic listens on one, which no borrower waits for."""
    database = pool(dsn, max_size=2, options={"server_settings": {"application_name": "shared"}})
    app = FastAPI(lifespan=lifespan(also=HANDLES, state=database, deployment="by-pool"))
    async with running(app) as scope:
        cache, lock, topic = await scope.get(writes), await scope.get(report), await scope.get(news)
        counter, opened = await scope.get(visits), await scope.get(database)
        assert [await cache.increment("client") for _ in range(3)] == [1, 2, 3]
        async with lock.hold() as held, topic.subscribe() as messages:
            assert held.token > 0
            await topic.publish("hello")
            assert await anext(messages) == "hello"
            async with opened.borrow() as first, opened.borrow(separate=True) as second:
                assert await first.fetchval("SELECT 1") + await second.fetchval("SELECT 1") == 2
        assert counter.add() >= 1
        observer = await asyncpg.connect(dsn)
        found = await observer.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shared'")
        await observer.close()
        assert found <= 2


def test_a_route_takes_both(dsn: str) -> None:
    """The pool serves the route's own statements as well as its limit."""
    database = pool(dsn, max_size=2)
    app = FastAPI(lifespan=lifespan(state=database, deployment="by-pool"))

    @app.get("/")
    async def index(
        connection: Annotated[Connection, Depends(database.connection)], writes: Annotated[Cache, Depends(writes)]
    ) -> list[int]:
        return [await connection.fetchval("SELECT 7"), await writes.increment("route", ttl=60)]

    with TestClient(app) as client:
        assert client.get("/").json()[0] == 7


async def test_what_is_no_pool_is_refused_at_start() -> None:
    """A resource that gives something else cannot keep state."""

    @scoped("app")
    async def nothing() -> Pool | None:
        return None

    app = FastAPI(lifespan=lifespan(also=[writes], state=nothing, deployment="by-pool"))
    with pytest.raises(StartFailed, match="which is no pool of tenure's") as raised:
        async with running(app):
            pass
    assert isinstance(raised.value.__cause__, DeclarationError)
