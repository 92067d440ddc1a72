"""The connections to Valkey that all tasks of a process share: each gets its answer, and what is lost comes back."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import DataError

from tenure import Cache
from tenure.errors import DeclarationError
from tenure.state.engines import MISSED
from tenure.state.stores.valkey import ValkeyEngine
from tests.pools.proxy import ValkeyProxy
from tests.state.test_valkey_engine import command, engine, url  # noqa: F401 (fixtures)

PATIENCE = 20


async def test_a_command_that_cannot_be_written_takes_no_answer(engine: ValkeyEngine) -> None:  # noqa: F811
    """After one that is refused here, each who asks at the same time gets the value of its own key."""
    names = ["alice", "bob", "carol"]
    for name in names:
        await engine.set(name, name.encode(), ttl=None)
    with pytest.raises(DataError):
        await engine.increment("n", Decimal(1), ttl=None)  # type: ignore[arg-type] # the point
    assert await asyncio.gather(*(engine.get(name) for name in names)) == [b"alice", b"bob", b"carol"]


async def test_what_is_added_is_a_whole_number(engine: ValkeyEngine) -> None:  # noqa: F811
    """A truth counts as 0 or 1, as in Python; what is no whole number is refused before it is sent."""
    hits = Cache("hits", scope="cluster")
    hits._begin(engine)  # noqa: SLF001 (as its app does)
    assert await hits.increment("x", by=True) == 1
    for by in (1.5, Decimal(1), "1"):
        with pytest.raises(DeclarationError, match="is no whole number"):
            await hits.increment("x", by=by)  # type: ignore[arg-type] # the point
    assert await hits.increment("x") == 2


async def test_a_time_without_end_is_a_long_one(url: str, engine: ValkeyEngine) -> None:  # noqa: F811
    """As at any other scope, `math.inf` and what is beyond all clocks may be said."""
    for ttl in (float("inf"), 1e17):
        await engine.set("a", b"1", ttl=ttl)
        assert await engine.increment(f"n{ttl}", 1, ttl=ttl) == 1
    assert await command(url, "TTL", "tenure:test:value:a") > 90 * 365 * 86400


async def test_a_dead_connection_is_replaced_for_callers_with_deadlines_of_their_own(url: str) -> None:  # noqa: F811
    """Each leaves before the engine would give up, and one of the next is answered over another connection."""
    async with ValkeyProxy(url) as proxy, ValkeyEngine(proxy.url, deployment="test", deadline=0.3) as hasty:
        await hasty.set("a", b"1", ttl=None)
        proxy.forget()
        value, late = None, 0
        async with asyncio.timeout(PATIENCE):
            while value is None:
                try:
                    async with asyncio.timeout(0.1):
                        value = await hasty.get("a")
                except TimeoutError:
                    late += 1
    assert (value, late > 1) == (b"1", True)


async def test_a_process_that_does_not_read_loses_no_connection(url: str) -> None:  # noqa: F811
    """Where it was busy for longer than the engine waits, what was answered meanwhile is read, and nothing is lost."""
    loop = asyncio.get_running_loop()
    async with ValkeyEngine(url, deployment="test", deadline=0.3) as hasty:
        await hasty.set("a", b"1", ttl=None)
        wire = hasty._line._wire  # noqa: SLF001 (the connection, which is to stay)
        leaving = asyncio.create_task(hasty.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        until = loop.time() + 0.5
        while loop.time() < until:  # as a handler that computes
            pass
        assert await asyncio.gather(hasty.get("a"), hasty.get("a")) == [b"1", b"1"]
        assert hasty._line._wire is wire  # noqa: SLF001 (likewise)


async def test_a_topic_outlives_whatever_ends_its_connection(
    url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also an error that no driver says it raises, as uvloop's of a closed transport: `MISSED`, then what follows."""
    send, broken = AbstractConnection.send_packed_command, asyncio.Event()

    async def failing(connection: Any, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 (its own)
        if not broken.is_set() and b"PING" in b"".join(command):
            broken.set()
            msg = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
            raise RuntimeError(msg)
        await send(connection, command, check_health)  # type: ignore[no-untyped-call] # redis-py's

    async with ValkeyEngine(url, deployment="test", deadline=0.5) as hasty, asyncio.timeout(PATIENCE):
        async with hasty.subscribe("news") as messages:
            monkeypatch.setattr(AbstractConnection, "send_packed_command", failing)
            assert await anext(messages) is MISSED
            assert broken.is_set()
            await hasty.publish("news", b"after")
            assert await anext(messages) == b"after"
        async with hasty.subscribe("others") as messages:
            await hasty.publish("others", b"too")
            assert await anext(messages) == b"too"
