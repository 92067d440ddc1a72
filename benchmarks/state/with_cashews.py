"""cashews: its Redis backend without a copy in the client, and its memory; its decorator loads."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import cashews
from cashews.backends.redis import Redis
from cashews.picklers import PicklerType

from benchmarks.state.subject import TTL, Caching

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.state.subject import Database, Value

NAME = "cashews"
IN_MEMORY = "cashews, objects as they are"
AS_JSON = "cashews, as JSON"
CONNECTIONS = 64
ENTRIES = 10_000
DECORATED = "by its decorator"
NO_COPY = {"get": "gives the object itself, not a copy", "get_or_load": f"likewise; {DECORATED}"}
LOADS = {"get_or_load": DECORATED, "stampede": "by each process"}

# Its own addresses name no unix socket.
cashews.register_backend("unix", Redis, pass_uri=True, pickler=PicklerType.JSON)


def caching(url: str, database: Database) -> Any:  # noqa: ANN401 (a context)
    """Keep JSON on the server."""
    return _caching(NAME, database, LOADS, settings_url=url, max_connections=CONNECTIONS)


def in_memory(database: Database) -> Any:  # noqa: ANN401 (a context)
    """Keep objects in the process."""
    return _caching(IN_MEMORY, database, NO_COPY, settings_url="mem://", size=ENTRIES)


def as_json(database: Database) -> Any:  # noqa: ANN401 (a context)
    """Keep JSON in the process, so that what one gets is a copy."""
    return _caching(
        AS_JSON, database, {"get_or_load": DECORATED}, settings_url="mem://", size=ENTRIES, pickle_type="json"
    )


@asynccontextmanager
async def _caching(name: str, database: Database, notes: dict[str, str], **settings: Any) -> AsyncGenerator[Caching]:  # noqa: ANN401 (those of cashews)
    cache = cashews.Cache()
    cache.setup(check_repr=False, **settings)  # what it has read it would else write as text, to see that it can
    await cache.init()

    async def keep(key: str, value: Value) -> None:
        await cache.set(key, value, expire=TTL)

    async def limit(key: str) -> int:
        return await cache.incr(key, expire=TTL)

    @cache(ttl=TTL, key="{key}")
    async def load(key: str) -> Value:
        return await database.load(key)

    try:
        yield Caching(name, cache.get, keep, load, cache.incr, limit, prefix="cashews:", notes=notes)
    finally:
        await cache.close()
