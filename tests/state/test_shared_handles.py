"""`Cache`, `Lock` and `Topic` over Valkey and over PostgreSQL, each by two engines, as two processes have them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tenure import Cache, Lock, Topic
from tenure.errors import LockTimeout
from tenure.host import EmbeddedValkey
from tenure.state.stores.postgres import PostgresEngine
from tenure.state.stores.valkey import ValkeyEngine
from tests.faults.conftest import dsn  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tenure.state.engine import Engine

PATIENCE = 20.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run one server for these tests."""
    place = tempfile.mkdtemp(prefix="tenure-test-")
    with EmbeddedValkey(place) as server:
        yield server.url()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=["valkey", "postgres"])
def kind(request: pytest.FixtureRequest) -> Callable[[str], ValkeyEngine | PostgresEngine]:
    """Give what makes an engine for a deployment, on a server of that kind."""
    if request.param == "valkey":
        return partial(new_valkey, request.getfixturevalue("url"))
    return partial(new_postgres, request.getfixturevalue("dsn"))


def new_valkey(url: str, deployment: str) -> ValkeyEngine:
    """Make an engine."""
    return ValkeyEngine(url, deployment=deployment, deadline=PATIENCE)


def new_postgres(address: str, deployment: str) -> PostgresEngine:
    """Make an engine."""
    return PostgresEngine(address, deployment=deployment, deadline=PATIENCE)


@pytest.fixture
async def engines(kind: Callable[[str], ValkeyEngine | PostgresEngine]) -> AsyncIterator[list[Engine]]:
    """Give two engines of one deployment, which begins with nothing."""
    deployment = uuid4().hex
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(kind(deployment)) for _ in range(2)]


numbers = Cache("numbers", scope="host", type=int)
nightly = Lock("nightly", scope="host", lease=0.6)
readings = Topic("readings", scope="host", type=int)


async def test_one_loads_for_all_processes(engines: list[Engine]) -> None:
    """Of a hundred who want a value at once in two processes, one loads it, and all have it."""
    loads = []

    async def load() -> int:
        loads.append(1)
        await asyncio.sleep(0.1)
        return 42

    one, two = map(asynccontextmanager(numbers.factory), engines)
    async with one as here, two as there:
        wanting = [cache.get_or_load("key", load) for cache in (here, there) for _ in range(50)]
        assert await asyncio.gather(*wanting) == [42] * 100
        assert await there.get("key") == 42
    assert loads == [1]


async def test_processes_count_together(engines: list[Engine]) -> None:
    """Each add of either process has a number of its own, and what is set is counted on from."""
    one, two = map(asynccontextmanager(numbers.factory), engines)
    async with one as here, two as there:
        counted = await asyncio.gather(*(cache.increment("ada", ttl=60) for cache in (here, there) for _ in range(100)))
        assert sorted(counted) == list(range(1, 201))
        await here.set("ada", 7)
        assert await there.increment("ada") == 8
        assert await here.get("ada") == 8


async def test_one_process_holds_it_at_a_time(engines: list[Engine]) -> None:
    """Forty who want a lock in two processes have it one after the other, each with a higher token."""
    inside = most = 0
    tokens: list[int] = []

    async def work(lock: Lock) -> None:
        nonlocal inside, most
        async with lock.hold(timeout=PATIENCE) as held:
            inside += 1
            most = max(most, inside)
            tokens.append(held.token)
            await asyncio.sleep(0)
            inside -= 1

    one, two = map(asynccontextmanager(nightly.factory), engines)
    async with one as here, two as there:
        await asyncio.gather(*(work(lock) for lock in (here, there) for _ in range(20)))
    assert most == 1
    assert len(tokens) == 40
    assert tokens == sorted(set(tokens))


async def test_a_lease_is_renewed_in_the_server(engines: list[Engine]) -> None:
    """A block that runs for longer than its lease keeps the lock from the other process."""
    one, two = map(asynccontextmanager(nightly.factory), engines)
    async with one as here, two as there:
        async with here.hold() as held:
            with pytest.raises(LockTimeout, match="held by another process"):
                async with there.hold(timeout=nightly.lease * 1.5):
                    pytest.fail("two hold it")
            held.check()
        async with there.hold() as later:
            assert later.token > held.token


async def test_what_one_process_publishes_reaches_the_other(engines: list[Engine]) -> None:
    """A subscriber has what either process publishes, as what it was."""
    one, two = map(asynccontextmanager(readings.factory), engines)
    async with one as here, two as there, there.subscribe() as messages:
        await here.publish(1)
        assert await anext(messages) == 1
        await there.publish(2)
        assert await anext(messages) == 2
