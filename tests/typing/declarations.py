"""What a type checker sees of tenure; checked by `make types`, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any, Self, assert_type

import httpx
from fastapi import Depends, FastAPI
from redis.asyncio import Redis

from tenure import (
    MISSED,
    Cache,
    Counter,
    Lock,
    Missed,
    Resource,
    Scope,
    SharedArray,
    Topic,
    lifespan,
    override,
    running,
    scoped,
)
from tenure import remote as elsewhere
from tenure.models import Model, ModelFile, ModelResource, ModelStats, model
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


# --- models -----------------------------------------------------------------------------------------------------------


def load_lengths() -> Callable[[list[str]], list[int]]:
    """Load from nothing."""
    return lambda texts: [len(text) for text in texts]


class Weights:
    """A class that is loaded from a file's content, and whose object is called."""

    def __init__(self, content: bytes) -> None: ...

    def __call__(self, items: Sequence[bytes]) -> list[dict[str, float]]:
        """Give something of a generic type."""
        return [{} for _ in items]


def load_parts(contents: Mapping[str, bytes]) -> Callable[[list[int]], tuple[float, ...]]:
    """Load from several files."""
    return lambda numbers: tuple(number / len(contents) for number in numbers)


async def chosen() -> ModelFile:
    """Choose a file."""
    return weights


weights = ModelFile("weights.onnx", sha256="0" * 64, format="onnx")
lengths = model(load=load_lengths, warmup=["a"], max_batch=8, cost=len, max_cost=100)
scores = model(load=Weights, file=weights, scope="host", idempotent=True)
parts = model(load=load_parts, file={"a": weights, "b": weights}, native_threads=None, invariant=0.1)

assert_type(lengths, ModelResource[str, int])
assert_type(scores, ModelResource[bytes, dict[str, float]])
assert_type(parts, ModelResource[int, float])
assert_type(model(load=Weights, file=chosen), ModelResource[bytes, dict[str, float]])


async def use_models(lengths: Annotated[Model[str, int], Depends(lengths)]) -> None:
    """Call what is injected, and look others up."""
    assert_type(await lengths("a"), int)
    assert_type(await lengths.many(["a", "b"]), list[int])
    assert_type(await lengths.within(0.5)("a"), int)
    assert_type(lengths.version, str)
    assert_type(lengths.stats, ModelStats)
    assert_type(await lengths.swap(weights), str)
    async with running(also=[scores, parts]) as scope:
        assert_type(await scope.get(scores), Model[bytes, dict[str, float]])
        assert_type(await (await scope.get(parts))(3), float)
    with override(app, {scores: lambda: lengths}):
        ...


# --- objects in other processes ---------------------------------------------------------------------------------------


class Index:
    """What lives in a process of its own."""

    def find(self, text: str, *, top: int = 3) -> list[Pool]:
        """Find."""
        raise NotImplementedError

    async def learn(self, text: str) -> int:
        """Learn."""
        raise NotImplementedError

    async def words(self, first: str) -> AsyncIterator[str]:
        """Give words."""
        yield first

    def numbers(self) -> Iterator[int]:
        """Give numbers."""
        yield 1


index = scoped("host", name="index")(Index)
assert_type(index, Resource[elsewhere.Remote[Index]])
in_the_cluster = scoped("cluster")(elsewhere.hosted(ray={"num_gpus": 1})(Index))
assert_type(in_the_cluster, Resource[elsewhere.Remote[Index]])


@scoped("host")
def shared() -> SharedArray:
    """Make an array for all."""
    raise NotImplementedError


assert_type(shared, Resource[SharedArray])


async def call(handle: Annotated[elsewhere.Remote[Index], Depends(index)]) -> None:
    """Call what lives elsewhere."""
    assert_type(await handle(Index.find, "text", top=2), list[Pool])
    assert_type(await handle.within(1.5)(Index.learn, "text"), int)
    async for word in handle(Index.words, "first"):
        assert_type(word, str)
    async for number in handle(Index.numbers):
        assert_type(number, int)
    assert_type(elsewhere.local(Index()), elsewhere.Remote[Index])
