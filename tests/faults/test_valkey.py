"""Valkey gone, killed, silent or demoted, its users killed or paused: what is said, what is kept, how it recovers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest
import redis

from tenure.errors import StateUnavailable
from tenure.host import EmbeddedValkey
from tenure.host.locks import is_held
from tenure.state.engines import MISSED
from tenure.state.stores.valkey import ValkeyEngine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

PROJECT = Path(__file__).parents[2]
HANGS = 20.0
"""Seconds after which a wait of a test has failed."""


@pytest.fixture
def server() -> Iterator[EmbeddedValkey]:
    """Run a server whose keeper may be killed."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    with EmbeddedValkey(place) as server:
        yield server
    while any((place / name).exists() and is_held(place / name) for name in ("keeper", "service")):
        time.sleep(0.01)
    shutil.rmtree(place)


@pytest.fixture
def clients() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that use shared state, and are killed in the end."""
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.state.valkey_client", *words]
            process = subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def pid(server: EmbeddedValkey) -> int:
    """Tell the process number of the server."""
    with redis.Redis.from_url(server.url()) as client:
        return int(client.info("server")["process_id"])


def parent(process: int) -> int:
    """Tell whose child a process is."""
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(process)], check=True, capture_output=True).stdout)


def line(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that a process says."""
    return cast("IO[str]", process.stdout).readline().strip()


def tell(process: subprocess.Popen[str]) -> str:
    """Let a process take its next step; what it says of it."""
    cast("IO[str]", process.stdin).write("\n")
    return line(process)


async def recovered(call: Callable[[], Awaitable[object]]) -> object:
    """Call until there is an answer again."""
    async with asyncio.timeout(HANGS):
        while True:
            with suppress(StateUnavailable):
                return await call()
            await asyncio.sleep(0.01)


async def kept(messages: object) -> list[object]:
    """Give what is there, up to and with the message `last`."""
    found: list[object] = []
    async with asyncio.timeout(HANGS):
        async for message in messages:  # type: ignore[attr-defined]
            found.append(message)
            if message == b"last":
                return found
    return found


def calls(engine: ValkeyEngine) -> list[Awaitable[object]]:
    """Begin one call of each kind."""
    return [
        engine.get("key"),
        engine.set("key", b"value", ttl=None),
        engine.delete("key"),
        engine.increment("number", 1, ttl=None),
        engine.increment("limit", 1, ttl=60),
        engine.acquire("lock", holder="a", lease=60),
        engine.renew("lock", holder="a", lease=60),
        engine.release("lock", holder="a"),
        engine.publish("topic", b"message"),
        engine.subscribe("another").__aenter__(),
    ]


async def refusals(engine: ValkeyEngine) -> list[type]:
    """Make one call of each kind at once; what became of each."""
    async with asyncio.timeout(HANGS):
        return [type(outcome) for outcome in await asyncio.gather(*calls(engine), return_exceptions=True)]


async def test_a_server_that_is_gone_is_said_by_every_call_until_another_is_there(server: EmbeddedValkey) -> None:
    """With its keeper killed no call waits past its deadline; with a new server the same engine works."""
    async with ValkeyEngine(server.url(), deployment="test") as engine:
        await engine.set("key", b"value", ttl=None)
        os.kill(parent(pid(server)), signal.SIGKILL)
        while is_held(server.folder / "service"):
            await asyncio.sleep(0.01)
        for _ in range(3):
            assert await refusals(engine) == [StateUnavailable] * 10
        async with EmbeddedValkey(server.folder):
            assert await recovered(lambda: engine.increment("number", 1, ttl=None)) == 1
            assert await engine.get("key") is None


async def test_a_killed_server_is_back_for_the_same_engine(server: EmbeddedValkey) -> None:
    """The keeper starts it again, and a call that comes meanwhile waits for it as long as its deadline is."""
    async with ValkeyEngine(server.url(), deployment="test", deadline=HANGS) as engine:
        for _ in range(3):
            os.kill(pid(server), signal.SIGKILL)
            assert await recovered(lambda: engine.increment("number", 1, ttl=None)) == 1


async def test_a_silent_server_is_said_by_every_call_until_it_speaks(server: EmbeddedValkey) -> None:
    """A stopped server answers nothing and closes nothing: no call waits past its deadline, nor does a start."""
    process = pid(server)
    async with ValkeyEngine(server.url(), deployment="test") as engine:
        os.kill(process, signal.SIGSTOP)
        try:
            for _ in range(3):
                assert await refusals(engine) == [StateUnavailable] * 10
            with pytest.raises(StateUnavailable, match="cannot be used"):
                await ValkeyEngine(server.url(), deployment="test").__aenter__()
        finally:
            os.kill(process, signal.SIGCONT)
        await recovered(lambda: engine.set("key", b"after", ttl=None))
        assert await engine.get("key") == b"after"


async def test_an_engine_cannot_start_without_a_server(tmp_path: Path) -> None:
    """The start fails by the deadline, and says what could not be reached."""
    with pytest.raises(StateUnavailable, match=f"the Valkey at {tmp_path}/nothing cannot be used"):
        async with asyncio.timeout(HANGS), ValkeyEngine(f"unix://{tmp_path}/nothing", deployment="test"):
            pass


@pytest.mark.parametrize("fault", ["killed", "silent"])
async def test_a_subscriber_that_lost_its_connection_is_told_and_goes_on(server: EmbeddedValkey, fault: str) -> None:
    """It gets `MISSED` once it is subscribed again, before all that follows, if the server was killed or stopped."""
    process = pid(server)
    async with ValkeyEngine(server.url(), deployment="test") as engine, engine.subscribe("news") as messages:
        await engine.publish("news", b"first")
        assert await anext(messages) == b"first"
        os.kill(process, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
        waiting = asyncio.ensure_future(anext(messages))
        if fault == "silent":
            await recovered_subscriptions(engine)
            os.kill(process, signal.SIGCONT)
        assert await asyncio.wait_for(waiting, HANGS) is MISSED
        await recovered(lambda: engine.publish("news", b"last"))
        assert [message for message in await kept(messages) if message is not MISSED] == [b"last"]


async def recovered_subscriptions(engine: ValkeyEngine) -> None:
    """Wait until the engine has noticed that its server is silent: it refuses to subscribe to anything else."""
    with pytest.raises(StateUnavailable):
        async with engine.subscribe("other"):
            pass
    with pytest.raises(StateUnavailable):
        async with engine.subscribe("other"):
            pass


async def test_messages_that_were_there_before_the_connection_was_lost_come_first(server: EmbeddedValkey) -> None:
    """What had arrived is not thrown away: `MISSED` stands after it."""
    async with (
        ValkeyEngine(server.url(), deployment="test") as engine,
        engine.subscribe("news") as messages,
        engine.subscribe("news") as witness,
    ):
        for number in range(3):
            await engine.publish("news", b"%d" % number)
            assert await anext(witness) == b"%d" % number
        os.kill(pid(server), signal.SIGKILL)
        assert await asyncio.wait_for(anext(witness), HANGS) is MISSED
        await recovered(lambda: engine.publish("news", b"last"))
        assert await kept(messages) == [b"0", b"1", b"2", MISSED, b"last"]


async def test_a_server_that_was_demoted_is_asked_anew(server: EmbeddedValkey) -> None:
    """A server that takes no writes is unavailable for them, and works again once it is in charge."""
    async with ValkeyEngine(server.url(), deployment="test") as engine:
        with redis.Redis.from_url(server.url()) as operator:
            operator.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call]
            for _ in range(2):
                with pytest.raises(StateUnavailable):
                    await engine.increment("number", 1, ttl=None)
            operator.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]
        assert await recovered(lambda: engine.increment("number", 1, ttl=None)) == 1


async def test_the_lock_of_a_killed_holder_is_free_when_its_lease_has_run_out(
    server: EmbeddedValkey, clients: Callable[..., subprocess.Popen[str]]
) -> None:
    """Until then nobody has it; who gets it then has a higher token."""
    holder = clients("hold", server.url(), "5")
    first = int(await asyncio.to_thread(line, holder))
    async with ValkeyEngine(server.url(), deployment="test") as engine:
        assert await asyncio.to_thread(tell, holder) == "True"
        holder.kill()
        assert await engine.acquire("held", holder="second", lease=60) is None
        async with asyncio.timeout(HANGS):
            while (second := await engine.acquire("held", holder="second", lease=60)) is None:
                await asyncio.sleep(0.05)
    assert second > first


async def test_a_holder_that_slept_past_its_lease_learns_that_it_has_lost_the_lock(
    server: EmbeddedValkey, clients: Callable[..., subprocess.Popen[str]]
) -> None:
    """A stopped holder cannot renew what another has got meanwhile, and its token is below the other's."""
    holder = clients("hold", server.url(), "1")
    first = int(await asyncio.to_thread(line, holder))
    holder.send_signal(signal.SIGSTOP)
    async with ValkeyEngine(server.url(), deployment="test") as engine:
        async with asyncio.timeout(HANGS):
            while (second := await engine.acquire("held", holder="second", lease=60)) is None:
                await asyncio.sleep(0.05)
        holder.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(tell, holder) == "False"
        assert await engine.renew("held", holder="second", lease=60)
    assert second > first


async def test_no_acknowledged_add_is_lost_when_a_durable_server_is_killed(
    tmp_path: Path, clients: Callable[..., subprocess.Popen[str]]
) -> None:
    """With four processes adding and the server killed three times: acknowledged ≤ total ≤ sent."""
    async with EmbeddedValkey(tmp_path, durable=True) as server:
        adding = [clients("count_on", server.url()) for _ in range(4)]
        async with ValkeyEngine(server.url(), deployment="test") as engine:
            total = 0
            for _ in range(3):
                reached = total + 200
                while total < reached:
                    total = int(cast("bytes", await recovered(lambda: engine.get("count")) or b"0"))
                await asyncio.to_thread(lambda: os.kill(pid(server), signal.SIGKILL))
            await recovered(lambda: engine.get("count"))
            for process in adding:
                process.kill()
            said = [word for process in adding for word in (await asyncio.to_thread(process.communicate))[0].split()]
            total = int(cast("bytes", await recovered(lambda: engine.get("count"))))
    assert 600 <= said.count("acknowledged") <= total <= said.count("sent")
