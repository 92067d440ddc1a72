"""PostgreSQL gone, killed, silent or demoted, its users killed or paused: what is said and kept, how it recovers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tenure.errors import StateUnavailable
from tenure.host.locks import is_held
from tenure.host.postgres import EmbeddedPostgres
from tenure.state.engines import MISSED
from tenure.state.stores.postgres import PostgresEngine
from tests.faults.test_valkey import HANGS, kept, line, parent, recovered, recovered_subscriptions, refusals, tell
from tests.roster.service import reachable_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """Run a server whose keeper may be killed."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        yield server


@pytest.fixture
def clients() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that use shared state, and are killed in the end."""
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.state.postgres_client", *words]
            process = subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def pid(server: EmbeddedPostgres) -> int:
    """Tell the process number of the server."""
    return int((server.home / "data" / "postmaster.pid").read_text().split()[0])


def children(process: int) -> list[int]:
    """Tell the process numbers of a process's children."""
    words = ["ps", "-o", "pid=", "--ppid", str(process)]
    return [int(word) for word in subprocess.run(words, check=True, capture_output=True).stdout.split()]


@contextmanager
def silence(server: EmbeddedPostgres) -> Iterator[None]:
    """Stop all processes of a server, which then answers nothing and closes nothing."""
    postmaster = pid(server)
    os.kill(postmaster, signal.SIGSTOP)
    stopped = [postmaster, *children(postmaster)]
    for process in stopped:
        with suppress(ProcessLookupError):  # one that ended just then
            os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def kill(server: EmbeddedPostgres) -> None:
    """Kill all processes of a server at once; its keeper starts another."""
    postmaster = pid(server)
    os.kill(postmaster, signal.SIGSTOP)
    for process in [*children(postmaster), postmaster]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


async def test_a_server_that_is_gone_is_said_by_every_call_until_another_is_there(server: EmbeddedPostgres) -> None:
    """With its keeper killed no call waits past its deadline; with a new server the same engine works."""
    async with PostgresEngine(server.dsn(), deployment="test") as engine:
        await engine.set("key", b"value", ttl=None)
        os.kill(await asyncio.to_thread(lambda: parent(pid(server))), signal.SIGKILL)
        while is_held(server.folder / "service"):
            await asyncio.sleep(0.01)
        for _ in range(3):
            assert await refusals(engine) == [StateUnavailable] * 10
        async with EmbeddedPostgres(server.folder):
            assert await recovered(lambda: engine.increment("number", 1, ttl=None)) == 1


async def test_what_is_kept_for_good_outlives_a_crash(server: EmbeddedPostgres) -> None:
    """After a crash what is done once is known to be done, where cached values are gone."""
    async with PostgresEngine(server.dsn(), deployment="for-good", deadline=HANGS) as engine:
        await engine.keep("once:migrated", b"42")
        await engine.set("cache:some:key", b"value", ttl=None)
        await asyncio.to_thread(kill, server)
        assert await recovered(lambda: engine.kept("once:migrated")) == b"42"
        assert await engine.get("cache:some:key") is None


async def test_a_killed_server_is_back_for_the_same_engine(server: EmbeddedPostgres) -> None:
    """The keeper starts it again; a call that comes meanwhile waits for it as long as its deadline is."""
    async with PostgresEngine(server.dsn(), deployment="test", deadline=HANGS) as engine:
        for turn in range(2):
            await asyncio.to_thread(kill, server)
            assert await recovered(lambda: engine.acquire(f"lock-{turn}", holder="a", lease=60))  # noqa: B023 (at once)


@pytest.mark.parametrize("commit", ["on", "off"])
async def test_a_lock_that_was_granted_is_held_after_a_crash(server: EmbeddedPostgres, commit: str) -> None:
    """Nobody else gets it, and tokens go on rising, even where commits do not wait for the disk."""
    operator = await asyncpg.connect(server.dsn())
    await operator.execute(f"ALTER SYSTEM SET synchronous_commit = {commit}")
    await operator.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    await operator.fetch("SELECT pg_reload_conf()")
    await operator.close()
    async with PostgresEngine(server.dsn(), deployment="test", deadline=HANGS) as engine:
        last = 0
        for turn in range(2):
            token = await engine.acquire(f"lock-{turn}", holder="first", lease=60)
            assert await engine.renew(f"lock-{turn}", holder="first", lease=120)
            await asyncio.to_thread(kill, server)
            refused = await recovered(lambda: engine.acquire(f"lock-{turn}", holder="second", lease=60))  # noqa: B023
            assert refused is None
            assert token
            assert token > last
            last = token


@pytest.mark.parametrize("way", ["address", "pool"])
async def test_a_silent_server_is_said_by_every_call_until_it_speaks(server: EmbeddedPostgres, way: str) -> None:
    """A stopped server answers nothing and closes nothing: no call waits past its deadline, nor does a start."""
    async with (
        asyncpg.create_pool(server.dsn(), min_size=0, max_size=4) as pool,
        PostgresEngine(server.dsn(), deployment="test", pool=pool if way == "pool" else None) as engine,
    ):
        await asyncio.gather(*(engine.get("key") for _ in range(10)))
        with silence(server):
            for _ in range(3):
                assert await refusals(engine) == [StateUnavailable] * 10
            with pytest.raises(StateUnavailable, match="cannot be used: it did not answer within 1 s"):
                await PostgresEngine(server.dsn(), deployment="test").__aenter__()
        await recovered(lambda: engine.set("key", b"after", ttl=None))
        assert await engine.get("key") == b"after"


async def test_the_close_of_an_engine_does_not_wait_for_a_silent_server(server: EmbeddedPostgres) -> None:
    """It ends, with its connections, its sweeps and its subscriptions."""
    engine = PostgresEngine(server.dsn(), deployment="test")
    await engine.__aenter__()
    async with engine.subscribe("news") as messages:
        with silence(server):
            asking = asyncio.ensure_future(engine.get("key"))
            await asyncio.sleep(0)
            async with asyncio.timeout(HANGS):
                await engine.close()
                with pytest.raises(StateUnavailable):
                    await asking
        assert await kept(messages) == []


async def test_an_engine_cannot_start_without_a_server(tmp_path: Path) -> None:
    """The start fails by the deadline, and says what could not be reached."""
    address = f"postgresql://postgres@/postgres?host={tmp_path}"
    with pytest.raises(StateUnavailable, match=f"the PostgreSQL at {tmp_path}/postgres cannot be used"):
        async with asyncio.timeout(HANGS), PostgresEngine(address, deployment="test"):
            pass


@pytest.mark.parametrize("fault", ["killed", "silent"])
@pytest.mark.parametrize("way", ["address", "pool"])
async def test_a_subscriber_that_lost_its_connection_is_told_and_goes_on(
    server: EmbeddedPostgres, fault: str, way: str
) -> None:
    """It gets `MISSED` once it is subscribed again, before all that follows, if the server was killed or stopped."""
    async with (
        asyncpg.create_pool(server.dsn(), min_size=0, max_size=4) as pool,
        PostgresEngine(None if way == "pool" else server.dsn(), deployment="test", pool=pool) as engine,
        engine.subscribe("news") as messages,
    ):
        await engine.publish("news", b"first")
        assert await anext(messages) == b"first"
        waiting = asyncio.ensure_future(anext(messages))
        if fault == "killed":
            await asyncio.to_thread(kill, server)
        else:
            with silence(server):
                await recovered_subscriptions(engine)  # type: ignore[arg-type]
        assert await asyncio.wait_for(waiting, HANGS) is MISSED
        await recovered(lambda: engine.publish("news", b"last"))
        assert [message for message in await kept(messages) if message is not MISSED] == [b"last"]


async def test_messages_that_were_there_before_the_connection_was_lost_come_first(server: EmbeddedPostgres) -> None:
    """What had arrived is not thrown away: `MISSED` stands after it."""
    async with (
        PostgresEngine(server.dsn(), deployment="test") as engine,
        engine.subscribe("news") as messages,
        engine.subscribe("news") as witness,
    ):
        for number in range(3):
            await engine.publish("news", b"%d" % number)
            assert await anext(witness) == b"%d" % number
        await asyncio.to_thread(kill, server)
        assert await asyncio.wait_for(anext(witness), HANGS) is MISSED
        await recovered(lambda: engine.publish("news", b"last"))
        assert await kept(messages) == [b"0", b"1", b"2", MISSED, b"last"]


async def test_a_server_that_was_demoted_is_asked_anew(server: EmbeddedPostgres) -> None:
    """A server that takes no writes is unavailable for them, and works again once it is in charge."""
    async with PostgresEngine(server.dsn(), deployment="test") as engine:
        operator = await asyncpg.connect(server.dsn(), server_settings={"default_transaction_read_only": "off"})
        await operator.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await operator.fetch("SELECT pg_reload_conf()")
        async with asyncio.timeout(HANGS):
            with pytest.raises(StateUnavailable, match="read-only"):
                await increment_on(engine)
        await operator.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await operator.fetch("SELECT pg_reload_conf()")
        await operator.close()
        assert await recovered(lambda: engine.increment("number", 1, ttl=None))


async def increment_on(engine: PostgresEngine) -> None:
    """Add one until it is refused."""
    while True:
        await engine.increment("number", 1, ttl=None)


async def test_the_lock_of_a_killed_holder_is_free_when_its_lease_has_run_out(
    server: EmbeddedPostgres, clients: Callable[..., subprocess.Popen[str]]
) -> None:
    """Until then nobody has it; who gets it then has a higher token."""
    holder = clients("hold", server.dsn(), "5")
    first = int(await asyncio.to_thread(line, holder))
    async with PostgresEngine(server.dsn(), deployment="test", deadline=HANGS) as engine:
        assert await asyncio.to_thread(tell, holder) == "True"
        holder.kill()
        assert await engine.acquire("held", holder="second", lease=60) is None
        async with asyncio.timeout(HANGS):
            while (second := await engine.acquire("held", holder="second", lease=60)) is None:
                await asyncio.sleep(0.05)
    assert second > first


async def test_a_holder_that_slept_past_its_lease_learns_that_it_has_lost_the_lock(
    server: EmbeddedPostgres, clients: Callable[..., subprocess.Popen[str]]
) -> None:
    """A stopped holder cannot renew what another has got meanwhile, and its token is below the other's."""
    holder = clients("hold", server.dsn(), "1")
    first = int(await asyncio.to_thread(line, holder))
    holder.send_signal(signal.SIGSTOP)
    async with PostgresEngine(server.dsn(), deployment="test", deadline=HANGS) as engine:
        async with asyncio.timeout(HANGS):
            while (second := await engine.acquire("held", holder="second", lease=60)) is None:
                await asyncio.sleep(0.05)
        holder.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(tell, holder) == "False"
        assert await engine.renew("held", holder="second", lease=60)
    assert second > first


async def test_calls_that_are_cancelled_at_any_moment_leave_no_connection_in_use(server: EmbeddedPostgres) -> None:
    """After hundreds of them, over an app's pool, all of it is free and the next calls are answered."""
    async with (
        asyncpg.create_pool(server.dsn(), min_size=0, max_size=4) as pool,
        PostgresEngine(server.dsn(), deployment="test", pool=pool, deadline=HANGS) as engine,
    ):
        for turn in range(60):
            calling = [asyncio.ensure_future(engine.increment("n", 1, ttl=None)) for _ in range(6)]
            for _ in range(turn):
                await asyncio.sleep(0)
            for call in calling:
                call.cancel()
            await asyncio.wait(calling)
        total = await engine.increment("n", 0, ttl=None)
        assert await asyncio.gather(*(engine.increment("n", 1, ttl=None) for _ in range(20)))
        assert await engine.get("n") == b"%d" % (total + 20)
        assert pool.get_idle_size() == pool.get_size()
