"""tenure's handles, as an app has them injected."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import TENURE
from benchmarks.state.subject import TTL, Caching, Counting, Sending
from tenure import Cache, Counter, Topic, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.state.subject import Database, Value
    from tenure.scopes import ScopeName

requests = Counter("requests", scope="host")
users: dict[ScopeName, Cache[Any]] = {
    "host": Cache("users", scope="host"),
    "app": Cache("users of this process", scope="app"),
}
news: Topic[Any] = Topic("news", scope="host")

ONE_FOR_ALL = {"stampede": "for all processes"}


@asynccontextmanager
async def counting() -> AsyncGenerator[Counting]:
    """Count in the mapped file."""
    async with running(also=[requests]) as scope:
        counter = await scope.get(requests)
        yield Counting(TENURE, counter.add, lambda: counter.value, counter.add)


@asynccontextmanager
async def caching(scope: ScopeName, database: Database) -> AsyncGenerator[Caching]:
    """Keep values of no declared type, so JSON as it is, as the others do."""
    async with running(also=[users[scope]]) as app:
        cache = await app.get(users[scope])

        async def keep(key: str, value: Value) -> None:
            await cache.set(key, value, ttl=TTL)

        async def get_or_load(key: str) -> Any:  # noqa: ANN401 (what JSON holds)
            return await cache.get_or_load(key, partial(database.load, key), ttl=TTL)

        async def limit(key: str) -> int:
            return await cache.increment(key, ttl=TTL)

        notes = ONE_FOR_ALL if scope == "host" else {}
        yield Caching(TENURE, cache.get, keep, get_or_load, cache.increment, limit, notes=notes)


@asynccontextmanager
async def sending() -> AsyncGenerator[Sending]:
    """Publish to a topic, and be subscribed to it."""
    async with running(also=[news]) as scope:
        topic = await scope.get(news)
        async with topic.subscribe() as messages:
            yield Sending(TENURE, topic.publish, messages.__anext__)
