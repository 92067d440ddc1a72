"""redis-py on the Valkey that the others use too: what a program does without a library for it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import redis
from redis.asyncio import Redis

from benchmarks.state.subject import TTL, Caching, Counting, Sending

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.state.subject import Database, Value

NAME = "redis-py"
LIMIT = """
local number = redis.call('INCRBY', KEYS[1], ARGV[1])
if number == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return number
"""
EACH_LOADS = {"stampede": "each who wants it does"}


@asynccontextmanager
async def counting(url: str) -> AsyncGenerator[Counting]:
    """Count with a key of the server."""
    with redis.Redis.from_url(url) as from_threads:
        async with Redis.from_url(url) as client:

            async def value() -> int:
                return int(await client.get("requests") or 0)

            yield Counting(
                NAME,
                add=lambda: client.incr("requests"),
                value=value,
                add_in_thread=lambda: from_threads.incr("requests"),
                waits=True,
            )


@asynccontextmanager
async def caching(url: str, database: Database) -> AsyncGenerator[Caching]:
    """Keep JSON by the standard library; look for a value, and load it where there is none."""
    async with Redis.from_url(url) as client:
        script = client.register_script(LIMIT)

        async def get(key: str) -> Any:  # noqa: ANN401 (what JSON holds)
            written = await client.get(key)
            return None if written is None else json.loads(written)

        async def keep(key: str, value: Value) -> None:
            await client.set(key, json.dumps(value), ex=TTL)

        async def get_or_load(key: str) -> Any:  # noqa: ANN401 (likewise)
            value = await get(key)
            if value is None:
                value = await database.load(key)
                await keep(key, value)
            return value

        async def limit(key: str) -> int:
            return int(await script(keys=[key], args=[1, TTL * 1000]))

        yield Caching(NAME, get, keep, get_or_load, client.incr, limit, prefix="redis-py:", notes=EACH_LOADS)


@asynccontextmanager
async def sending(url: str) -> AsyncGenerator[Sending]:
    """Publish JSON over the pool, and listen on a connection of its own."""
    async with Redis.from_url(url) as client, client.pubsub() as subscription:
        await subscription.subscribe("users")
        messages = subscription.listen()
        await anext(messages)  # that it is subscribed

        async def publish(value: Value) -> None:
            await client.publish("users", json.dumps(value))

        async def receive() -> Any:  # noqa: ANN401 (likewise)
            return json.loads((await anext(messages))["data"])

        yield Sending(NAME, publish, receive)
