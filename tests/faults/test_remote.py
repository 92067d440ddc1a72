"""An object that all workers of a machine call, while its process, its keeper, a worker or callers go away."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from tenure import running
from tenure.errors import AlreadyClosed
from tenure.host import locks
from tenure.host.sockets import socket_path
from tenure.remote import OwnerBusy, OwnerDied
from tenure.remote.service import SOCKET
from tests.faults.processes import gone, parent, until
from tests.faults.serving import PATIENCE, connected, served
from tests.remote import promises
from tests.remote.things import Thing, app, thing

if TYPE_CHECKING:
    from tenure.remote import Remote

APP = "tests.remote.things:app"
CALLS = 1500


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of the test's own for all that its workers share."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def socket_below(place: Path) -> Path:
    """Give the path of the socket of the one object whose process has its files there."""
    [home] = (path.parent for path in place.rglob("order.json"))
    return socket_path(home, SOCKET)


def listens(path: Path) -> bool:
    """Tell whether a process accepts connections at a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


async def without_keeper(handle: Remote[Thing], place: Path) -> int:
    """Kill the keeper of an object, and hold the next one up where it starts; give the process that has gone."""
    owner = await handle(Thing.process)
    (place / "not yet").touch()
    (place / "starting").unlink()
    os.kill(parent(owner), signal.SIGKILL)
    await until(lambda: gone(owner))
    return owner


async def processes(client: httpx.AsyncClient, workers: int) -> tuple[set[int], set[int]]:
    """Ask until all workers have answered; give their processes, and those of the objects that they call."""
    found: set[int] = set()
    owners: set[int] = set()
    async with asyncio.timeout(PATIENCE):
        while len(found) < workers:
            worker, owner = (await client.get("/processes")).json()
            found.add(worker)
            owners.add(owner)
    return found, owners


async def test_four_workers_call_one_object_that_ends_with_the_last(place: Path, port: int) -> None:
    """All of 200 calls are counted by one object in one process; it is gone after the server, its resources closed."""
    with served(APP, port, 4):
        async with connected(port, "/count") as client:
            _, owners = await processes(client, 4)
            first = (await client.get("/count")).json()
            counts = [answer.json() for answer in await asyncio.gather(*(client.get("/count") for _ in range(30)))]
    assert len(owners) == 1
    assert sorted(counts) == list(range(first + 1, first + 31))
    owner = owners.pop()
    await until(lambda: gone(owner))
    assert len((place / "opened").read_text().split()) == 1
    assert (place / "opened").read_text() == (place / "closed").read_text()


async def test_a_killed_object_fails_only_the_calls_under_way(place: Path, port: int) -> None:
    """Of calls from two workers, those under way get 503; all later ones are answered by a new object."""
    with served(APP, port, 2):
        async with connected(port, "/count") as client:
            _, owners = await processes(client, 2)
            [owner] = owners
            held = [asyncio.create_task(client.get("/hold?name=never")) for _ in range(2)]
            async with asyncio.timeout(PATIENCE):
                while not (place / "began").exists() or len((place / "began").read_text().splitlines()) < 2:
                    await asyncio.sleep(0.01)

            os.kill(owner, signal.SIGKILL)

            answers = await asyncio.gather(*held)
            assert [answer.status_code for answer in answers] == [503, 503]
            assert answers[0].headers["Retry-After"] == "1"
            later = await asyncio.gather(*(client.get("/greet?name=ada") for _ in range(20)))
            assert {(answer.status_code, answer.json()) for answer in later} == {(200, "hello ada!")}
            _, owners = await processes(client, 2)
            assert owners != {owner}


async def test_calls_under_way_hear_of_the_death_and_the_next_is_answered(place: Path) -> None:
    """An idempotent call under way is answered by the new object, any other raises `OwnerDied`."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        await promises.calls_under_way_hear_of_a_death(handle, place)


async def test_an_object_that_is_told_to_end_answers_what_has_begun(place: Path) -> None:
    """After SIGTERM a call under way is answered, and new ones, none of which has run there, by the next object."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        owner = await handle(Thing.process)
        held = asyncio.create_task(handle(Thing.hold, "go"))
        await until((place / "began").exists)
        path = await asyncio.to_thread(socket_below, place)

        os.kill(owner, signal.SIGTERM)
        await until(lambda: not listens(path))

        counts = [asyncio.create_task(handle(Thing.count)) for _ in range(3)]
        words = asyncio.create_task(anext(aiter(handle(Thing.words, 1))))
        with pytest.raises(OwnerDied, match=r"did not start anew within 0\.1 s"):
            await handle.within(0.1)(Thing.greet, "ada")
        (place / "go").touch()
        assert await held == 1
        assert sorted(await asyncio.gather(*counts)) == [1, 2, 3]
        assert await words == "word 0"
        assert gone(owner)
        assert await handle(Thing.process) != owner


async def test_a_call_that_waits_to_be_sent_is_made_of_the_next_object(place: Path) -> None:
    """Behind a large one, as the process does not read when it is killed: that one may have run, the other has not."""
    del place
    async with running(app) as scope:
        handle = await scope.get(thing)
        owner = await handle(Thing.process)
        os.kill(owner, signal.SIGSTOP)
        large = asyncio.create_task(handle(Thing.total, np.zeros(1_000_000)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(handle(Thing.greet, "ada"))
        await asyncio.sleep(0)
        os.kill(owner, signal.SIGKILL)
        with pytest.raises(OwnerDied):
            await large
        assert await waiting == "hello ada"


async def test_a_stream_whose_object_dies_says_so(place: Path) -> None:
    """What was given before is taken first, and the next item is `OwnerDied`, as of a call."""
    del place
    async with running(app) as scope:
        handle = await scope.get(thing)
        owner = await handle(Thing.process)
        stream = aiter(handle(Thing.stuck))
        assert await anext(stream) == 1
        os.kill(owner, signal.SIGKILL)
        await until(lambda: gone(owner))
        await asyncio.sleep(0.05)  # no event tells that its end was seen here: with it, and without, it is the same
        with pytest.raises(OwnerDied):
            await anext(stream)


async def test_who_waits_for_the_next_object_may_leave(place: Path) -> None:
    """While one whose keeper has died takes long to start anew, a call keeps its deadline and can be cancelled."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        owner = await without_keeper(handle, place)
        brief = asyncio.create_task(handle.within(1)(Thing.greet, "ada"))
        await asyncio.wait([brief], timeout=PATIENCE / 2)
        with pytest.raises(OwnerDied, match="did not start anew within 1 s"):
            brief.result()
        await until((place / "starting").exists)  # though nobody waits for it
        leaving = asyncio.create_task(handle(Thing.greet, "ada"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        patient = asyncio.create_task(handle(Thing.greet, "ada"))
        (place / "not yet").unlink()
        assert await patient == "hello ada"
        assert await handle(Thing.process) != owner


async def test_an_app_that_ends_while_its_object_starts_anew_keeps_nothing(place: Path) -> None:
    """Its keeper finds nobody, and goes."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        await without_keeper(handle, place)
        waiting = asyncio.create_task(handle(Thing.greet, "ada"))
        await until((place / "starting").exists)
    with pytest.raises(AlreadyClosed):
        await waiting
    (place / "not yet").unlink()
    [home] = (path.parent for path in place.rglob("order.json"))  # noqa: ASYNC240 (a look takes no time)
    await until(lambda: not locks.is_held(home / "keeper"))


async def test_a_killed_keeper_is_replaced(place: Path) -> None:
    """The object dies with its keeper, and the next call starts both anew."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        owner = await handle(Thing.process)
        keeper = parent(owner)
        os.kill(keeper, signal.SIGKILL)
        await until(lambda: gone(owner))
        assert await handle(Thing.process) != owner
    [home] = (path.parent for path in place.rglob("order.json"))  # noqa: ASYNC240 (a look takes no time)
    async with asyncio.timeout(PATIENCE):
        while locks.is_held(home / "keeper"):
            await asyncio.sleep(0.05)


async def test_a_killed_worker_takes_nothing_with_it(place: Path, port: int) -> None:
    """Under load one of two workers is killed: the other's calls all succeed, by the same object."""
    del place
    outcomes = Counter[str]()
    with served(APP, port, 2):
        async with connected(port, "/count") as client:
            workers, owners = await processes(client, 2)
            victim = min(workers)

            async def call() -> None:
                for _ in range(60):
                    try:
                        answer = await client.get("/greet?name=ada")
                        outcomes[str(answer.status_code)] += 1
                    except httpx.TransportError:
                        outcomes["cut off"] += 1

            calling = [asyncio.create_task(call()) for _ in range(8)]
            await asyncio.sleep(0)
            while outcomes["200"] < 50:
                await asyncio.sleep(0.01)
            os.kill(victim, signal.SIGKILL)
            await asyncio.gather(*calling)
            _, left = await processes(client, 2)
    assert set(outcomes) <= {"200", "cut off"}
    assert outcomes["cut off"] <= 8
    assert left == owners


async def test_callers_that_leave_leave_nothing_behind(place: Path) -> None:
    """Of 1,500 calls, 40 % cancelled at random: none hangs, and every answer is that of its own call."""
    del place
    chosen = random.Random(7)  # noqa: S311 (not for secrets)
    outcomes = Counter[str]()
    async with running(app) as scope:
        handle: Remote[Thing] = await scope.get(thing)

        async def call(number: int) -> None:
            method = Thing.greet if number % 2 else Thing.echo
            while True:
                try:
                    answer = await handle(method, f"n{number}")  # type: ignore[arg-type] # either takes text
                except OwnerBusy:
                    await asyncio.sleep(0.01)
                else:
                    break
            assert answer in {f"n{number}", f"hello n{number}"}
            outcomes["answered"] += 1

        async def maybe(number: int) -> None:
            task = asyncio.create_task(call(number))
            if chosen.random() < 0.4:
                for _ in range(chosen.randrange(40)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            outcomes["cancelled"] += task.cancelled()
            if not task.cancelled():
                task.result()

        async with asyncio.timeout(PATIENCE):
            for first in range(0, CALLS, 100):
                await asyncio.gather(*(maybe(number) for number in range(first, first + 100)))
            assert await handle(Thing.greet, "all") == "hello all"
    assert outcomes["answered"] + outcomes["cancelled"] == CALLS
    assert outcomes["cancelled"] > 100
    print(dict(outcomes))
