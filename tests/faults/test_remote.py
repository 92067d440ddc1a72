"""An object that all workers of a machine call, while its process, its keeper, a worker or callers go away."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tenure import running
from tenure.host import locks
from tenure.remote import OwnerBusy, OwnerDied
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
    """After SIGTERM a call under way is answered, a new one raises `OwnerDied`, and the next object answers again."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        owner = await handle(Thing.process)
        held = asyncio.create_task(handle(Thing.hold, "go"))
        await until((place / "began").exists)

        os.kill(owner, signal.SIGTERM)

        with pytest.raises(OwnerDied, match="has not run"):  # noqa: PT012 (it comes once the signal has)
            async with asyncio.timeout(PATIENCE):
                while True:
                    await handle(Thing.greet, "ada")
        (place / "go").touch()
        assert await held == 1
        await until(lambda: gone(owner))
        assert await handle(Thing.process) != owner


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
