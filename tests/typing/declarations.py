"""What a type checker sees of tenure; checked by `make types`, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any, Self, assert_type

import httpx
from fastapi import Depends, FastAPI
from redis.asyncio import Redis

from tenure import MISSED, Cache, Counter, Lock, Missed, Resource, Scope, Topic, lifespan, override, running, scoped
from tenure.ops import Degraded
from tenure.pools import httpx as clients
from tenure.pools import valkey


class Pool:
    """What a factory makes."""


class Remote(AbstractAsyncContextManager["Remote"]):
    """A class that is its own async context manager."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class File(AbstractContextManager["File"]):
    """A class that is its own context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


# --- each kind of factory ---------------------------------------------------------------------------------------------


@scoped("app")
async def from_async_generator() -> AsyncIterator[Pool]:
    """Yield once."""
    yield Pool()


@scoped("request")
def from_generator() -> Iterator[Pool]:
    """Yield once."""
    yield Pool()


@scoped("function")
def from_generator_in_full() -> Generator[Pool, None, None]:
    """Yield once."""
    yield Pool()


@scoped("app")
async def from_coroutine() -> Pool:
    """Return."""
    return Pool()


@scoped("app")
def from_function() -> Pool:
    """Return."""
    return Pool()


@scoped("app")
@asynccontextmanager
async def from_async_context_manager() -> AsyncGenerator[Pool]:
    """Yield once."""
    yield Pool()


@scoped("app")
@contextmanager
def from_context_manager() -> Generator[Pool]:
    """Yield once."""
    yield Pool()


@scoped("app", name="pool", start_timeout=60, close_timeout=5)
async def with_parameters(pool: Annotated[Pool, Depends(from_function)], size: int = 5) -> dict[str, Pool]:
    """Return something of a generic type."""
    return {str(size): pool}


@scoped("app")
async def optional() -> Pool | None:
    """Return something, or nothing."""
    return None


assert_type(from_async_generator, Resource[Pool])
assert_type(from_generator, Resource[Pool])
assert_type(from_generator_in_full, Resource[Pool])
assert_type(from_coroutine, Resource[Pool])
assert_type(from_function, Resource[Pool])
assert_type(from_async_context_manager, Resource[Pool])
assert_type(from_context_manager, Resource[Pool])
assert_type(with_parameters, Resource[dict[str, Pool]])
assert_type(optional, Resource[Pool | None])
assert_type(scoped("app")(Pool), Resource[Pool])
assert_type(scoped("app")(Remote), Resource[Remote])
assert_type(scoped("app")(File), Resource[File])


class Service:
    """A class with a resource among its methods."""

    @scoped("request")
    async def session(self) -> AsyncIterator[Pool]:
        """Yield once."""
        yield Pool()


assert_type(Service.session, Resource[Pool])
assert_type(Service().session, Resource[Pool])


# --- handles ----------------------------------------------------------------------------------------------------------

requests = Counter("requests", scope="app")

assert_type(requests, Counter)
assert_type(requests.add(), int)
assert_type(requests.add(-2), int)
assert_type(requests.value, int)

pools = Cache("pools", scope="app", ttl=60, max_entries=100, type=Pool)
pages = Cache("pages", scope="app", type=bytes)
nightly = Lock("nightly", scope="app", lease=30)
joined = Topic("joined", scope="app", type=Pool)

assert_type(pools, Cache[Pool])
assert_type(pages, Cache[bytes])
assert_type(Cache("names", scope="app", type=list[str]), Cache[list[str]])
assert_type(Cache[Pool | None]("maybe", scope="app"), Cache[Pool | None])
assert_type(Cache("anything", scope="app"), Cache[Any])
assert_type(nightly, Lock)
assert_type(joined, Topic[Pool])
assert_type(Topic("anything", scope="app"), Topic[Any])


async def use_handles(
    pools: Annotated[Cache[Pool], Depends(pools)],
    nightly: Annotated[Lock, Depends(nightly)],
    joined: Annotated[Topic[Pool], Depends(joined)],
) -> None:
    """Use what is injected."""

    async def load() -> Pool:
        return Pool()

    assert_type(await pools.get("a"), Pool | None)
    assert_type(await pools.get_or_load("a", load, ttl=5), Pool)
    assert_type(await pools.increment("a", -1, ttl=0.5), int)
    assert_type(await pools.delete("a"), bool)
    await pools.set("a", Pool())
    async with nightly.hold(timeout=0) as held:
        assert_type(held.token, int)
        assert_type(held.lost, bool)
    await joined.publish(Pool())
    async for message in joined.subscribe():
        assert_type(message, Pool | Missed)
        if message is not MISSED:
            assert_type(message, Pool)
    async with joined.subscribe() as messages:
        assert_type(await anext(messages), Pool | Missed)


# --- health checks ----------------------------------------------------------------------------------------------------


@from_async_generator.health
async def answers(pool: Pool) -> Degraded | None:
    """Check the value."""
    return Degraded("slow") if pool else None


@from_function.health(name="rows", timeout=2, every=30, critical=True, tags=("db",))
def has_rows(pool: Pool) -> bool:
    """Check it in a thread."""
    return bool(pool)


class Database:
    """A class with a resource and its check among its methods."""

    @scoped("app")
    async def pool(self) -> AsyncIterator[Pool]:
        """Yield once."""
        yield Pool()

    @pool.health
    async def answers(self, pool: Pool) -> None:
        """Check the value."""

    @pool.health(name="there")
    @staticmethod
    def is_there(pool: Pool) -> bool:
        """Check it without the object."""
        return bool(pool)


requests.health(lambda requests: requests.value < 1000)
pools.health(name="cache")(lambda pools: Degraded(pools.name))


async def call_checks() -> None:
    """Call them as what they were."""
    assert_type(await answers(Pool()), Degraded | None)
    assert_type(has_rows(Pool()), bool)
    assert_type(await Database().answers(Pool()), None)


# --- the three ways in ------------------------------------------------------------------------------------------------


async def mine(_app: FastAPI, pool: Annotated[Pool, Depends(from_function)]) -> AsyncGenerator[dict[str, Pool]]:
    """Run inside of tenure's lifespan."""
    yield {"pool": pool}


app = FastAPI(lifespan=lifespan)
FastAPI(lifespan=lifespan())
FastAPI(lifespan=lifespan(mine))
FastAPI(lifespan=lifespan(also=[from_function, requests]))
FastAPI(lifespan=lifespan(asynccontextmanager(mine), also=(from_coroutine,)))
assert_type(lifespan(app), AbstractAsyncContextManager[dict[str, Any]])


async def look_up() -> None:
    """Look values up outside of requests."""
    async with running(app) as scope:
        assert_type(scope, Scope)
        assert_type(await scope.get(from_async_generator), Pool)
        assert_type(await scope.get(with_parameters), dict[str, Pool])
        assert_type(await scope.get(optional), Pool | None)
        assert_type(await scope.get(requests), Counter)
        assert_type(await scope.get(pools), Cache[Pool])
        assert_type(await scope.get(nightly), Lock)
        assert_type(await scope.get(joined), Topic[Pool])
        assert_type(scope.open(from_generator), AbstractAsyncContextManager[Pool])
        async with scope.open(Service().session) as opened:
            assert_type(opened, Pool)
    async with running(also=[from_function, requests]) as scope:
        assert_type(await scope.get(from_function), Pool)
    with override(app, {from_function: Pool, requests: from_coroutine}) as nothing:
        assert_type(nothing, None)


# --- clients of other services ----------------------------------------------------------------------------------------

api = clients.client("https://api.example.com", max_size=20, options={"headers": {"Accept": "text/plain"}})
store = valkey.client("valkey://localhost", name="store", max_connections=90, workers=12)


async def use_clients(api: Annotated[httpx.AsyncClient, Depends(api)], store: Annotated[Redis, Depends(store)]) -> None:
    """Use what is injected."""
    assert_type(await api.get("/"), httpx.Response)
    assert_type(await store.incr("count"), int)


async def look_clients_up() -> None:
    """Look them, and what tells of them, up outside of requests."""
    async with running(also=[api, store]) as scope:
        assert_type(await scope.get(api), httpx.AsyncClient)
        assert_type(await scope.get(api.pool), clients.ClientPool)
        assert_type(await scope.get(store), Redis)
        assert_type((await scope.get(store.pool)).stats, valkey.PoolStats)
