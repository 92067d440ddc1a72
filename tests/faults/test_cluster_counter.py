"""A count that machines share, while its engine is wiped, killed, silent or gone, and workers are killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
import redis
import redis.asyncio
from fastapi import FastAPI

from tenure import Counter, lifespan, running
from tenure.errors import StartFailed
from tenure.host import EmbeddedPostgres, EmbeddedValkey
from tests.roster.service import reachable_folder
from tests.state.cluster_member import NAME, Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HANGS = 30.0
"""Seconds after which a wait of a test has failed."""
NEVER = 600.0
"""An interval that does not pass while a test runs."""
OFTEN = 0.05


class Engine:
    """An engine of shared state that can be wiped, and whose process can be sent signals."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedValkey) -> None:
        self.server = server
        self.url = server.dsn() if isinstance(server, EmbeddedPostgres) else server.url()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process, and with PostgreSQL to those that serve a connection each."""
        if isinstance(self.server, EmbeddedValkey):
            with redis.Redis.from_url(self.url) as client:
                self._pids = [int(client.info("server")["process_id"])]
        else:
            (pid_file,) = self.server.home.rglob("postmaster.pid")
            server = int(pid_file.read_text().split()[0])
            children = subprocess.run(["pgrep", "-P", str(server)], check=True, capture_output=True, text=True).stdout
            self._pids = [server, *map(int, children.split())]
        for pid in self._pids:
            os.kill(pid, number)

    def resume(self) -> None:
        """Let its processes go on that were stopped."""
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)

    async def wipe(self) -> None:
        """Lose everything that it keeps."""
        if isinstance(self.server, EmbeddedValkey):
            async with redis.asyncio.Redis.from_url(self.url) as client:
                await client.flushall()
            return
        connection = await asyncpg.connect(self.url)
        await connection.execute("DROP SCHEMA IF EXISTS tenure CASCADE")
        await connection.close()


@pytest.fixture(params=["valkey", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Run an engine that may be killed."""
    with reachable_folder() as folder:
        kind = EmbeddedValkey if request.param == "valkey" else EmbeddedPostgres
        with kind(folder / "engine") as server:
            yield Engine(server)


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder in which each machine of a test has its own."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))  # in mode 0700, as no other user may enter it
    yield place
    shutil.rmtree(place)


@pytest.fixture
def deployment() -> str:
    """Make up a name that nobody else has."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def worker(engine: Engine, place: Path, deployment: str) -> Iterator[Callable[..., Member]]:
    """Give what starts a worker on a machine; they are killed in the end."""
    with ExitStack() as stack:

        def start(machine: str, interval: float = OFTEN) -> Member:
            member = Member(place / machine, engine.url, deployment, interval)
            stack.callback(member.end)
            return member.started()

        yield start


def all_see(value: int, *members: Member) -> bool:
    """Wait until all see a value."""
    until = time.monotonic() + HANGS
    for member in members:
        while member.value != value:
            assert time.monotonic() < until, f"{member.value} is not {value}"
            time.sleep(0.01)
    return True


def test_another_worker_publishes_when_the_one_who_did_is_killed(worker: Callable[..., Member]) -> None:
    """The worker that publishes is killed -9: what it had counted is there, and another publishes in its place."""
    first, second, far = worker("one"), worker("one"), worker("two")
    assert all_see(first.add(5), far)
    first.tell("rush 0")
    heard = [first.line() for _ in range(50)]
    heard += first.kill()
    least = 5 + sum(said == "acknowledged" for said in heard)
    total = second.value
    assert least <= total <= least + 1
    assert second.add(100) == total + 100
    assert all_see(total + 100, far)
    far.add(1000)
    assert all_see(total + 1100, second)


def test_nothing_is_lost_when_all_workers_of_a_machine_are_killed(worker: Callable[..., Member]) -> None:
    """What was acknowledged and not published when all were killed -9 is published by the next worker there."""
    workers = [worker("one", NEVER), worker("one", NEVER)]
    assert [each.add(10) for each in workers] == [10, 20]
    for each in workers:
        each.kill()
    far = worker("two", NEVER)
    assert far.value == 0
    assert worker("one", NEVER).value == 20
    far.leave()
    assert worker("two", NEVER).value == 20


def test_a_forked_child_does_not_keep_others_from_publishing(worker: Callable[..., Member]) -> None:
    """The worker that publishes is killed, and leaves a child behind: another publishes all the same."""
    first, second, far = worker("one"), worker("one"), worker("two")
    first.tell("fork 0")
    child = int(first.line())
    try:
        first.process.kill()
        first.process.wait()
        assert second.add(7) == 7
        assert all_see(7, far)
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_wiped_engine_has_all_of_it_again(engine: Engine, worker: Callable[..., Member]) -> None:
    """The engine loses everything while machines count; it is exact again once each has published."""
    members = await asyncio.gather(*(asyncio.to_thread(worker, name) for name in ("one", "one", "two", "three")))
    for n in (1, -3, 1000):
        for member in members:
            await asyncio.to_thread(member.add, n)
        await engine.wipe()
    assert await asyncio.to_thread(all_see, 4 * 998, *members)


def test_counting_goes_on_while_the_engine_is_killed(engine: Engine, worker: Callable[..., Member]) -> None:
    """The engine is killed -9 again and again under load: every add succeeds, and in the end all see all of them."""
    members = [worker(name) for name in ("one", "one", "two")]
    for turn in range(3):
        engine.signal(signal.SIGKILL)
        for _ in range(100):
            for member in members:
                member.add()
        assert all_see(300 * (turn + 1), *members)


def test_counting_goes_on_while_the_engine_is_silent(engine: Engine, worker: Callable[..., Member]) -> None:
    """While the engine answers nothing, no add and no read waits for it; what was counted then is there afterwards."""
    one, two = worker("one"), worker("two")
    one.add(5)
    assert all_see(5, two)
    engine.signal(signal.SIGSTOP)
    try:
        assert [one.add(), two.add(10), one.value, two.value] == [6, 15, 6, 15]
    finally:
        engine.resume()
    assert all_see(16, one, two)


def test_a_worker_leaves_while_the_engine_is_silent(engine: Engine, worker: Callable[..., Member]) -> None:
    """It ends in good order, and what it could not publish, the next worker of its machine does."""
    one, two = worker("one"), worker("two")
    engine.signal(signal.SIGSTOP)
    try:
        one.add(5)
        one.leave()
    finally:
        engine.resume()
    assert worker("one").value == 5
    assert all_see(5, two)


async def test_an_outage_is_said_once_and_so_is_its_end(
    engine: Engine, place: Path, deployment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a line when the engine is gone and one when it is back, however long it was."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    counter = Counter(NAME, scope="cluster", interval=OFTEN)

    async def said(words: str, times: int) -> None:
        async with asyncio.timeout(HANGS):
            while sum(words in message for message in caplog.messages) < times:
                await asyncio.sleep(0.01)

    async with running(FastAPI(lifespan=lifespan(also=[counter], deployment=deployment, state=engine.url))) as scope:
        counting = await scope.get(counter)
        for outage in (1, 2):
            await asyncio.to_thread(engine.signal, signal.SIGSTOP)
            try:
                await said("counters count on, without what other machines count", outage)
                assert counting.add() == outage
            finally:
                await asyncio.to_thread(engine.resume)
            await said("counters have what other machines count again", outage)
    assert sum("counters count on" in message for message in caplog.messages) == 2


async def test_an_engine_that_is_not_there_is_told_at_the_first_start_alone(
    place: Path, deployment: str, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    """Without an engine nothing is known of other machines, and the app does not start; once it is known, it does."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    monkeypatch.setattr("tenure.state.stores.publisher.PATIENCE", 0.5)
    counter = Counter(NAME, scope="cluster")

    def app() -> FastAPI:
        return FastAPI(lifespan=lifespan(also=[counter], deployment=deployment, state=engine.url))

    await asyncio.to_thread(engine.signal, signal.SIGSTOP)
    try:
        with pytest.raises(StartFailed, match="what other machines have counted for `requests` could not be learned"):
            async with running(app()):
                pytest.fail("it started")
    finally:
        await asyncio.to_thread(engine.resume)
    async with running(app()) as scope:
        assert (await scope.get(counter)).add(5) == 5
    await asyncio.to_thread(engine.signal, signal.SIGSTOP)
    try:
        async with running(app()) as scope:
            assert (await scope.get(counter)).add(1) == 6
    finally:
        await asyncio.to_thread(engine.resume)
