"""A model that all workers of a machine call, while its process, its keeper, workers or callers go away."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tenure import running
from tenure.models import ModelBusy, ModelFile
from tenure.remote import OwnerDied
from tests.faults.processes import gone, parent, until
from tests.faults.serving import PATIENCE, connected, served
from tests.models.served import Answer, app, lines, multiplier, patient

if TYPE_CHECKING:
    from tenure.models import Model

APP = "tests.models.served:app"
CALLS = 1500


def pinned(folder: Path, content: str) -> ModelFile:
    """Write a factor into a file, and pin it."""
    path = folder / f"{content}.txt"
    path.write_text(content)
    path.chmod(0o600)
    return ModelFile(path, sha256=hashlib.sha256(content.encode()).hexdigest(), format="text")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of the test's own for all that its workers share, with the factor 2 for the model."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    file = pinned(tmp_path, "2")
    (tmp_path / "declared").write_text(f"{file.path}\n{file.sha256}\n")
    return tmp_path


async def versions(client: httpx.AsyncClient, workers: int) -> set[str]:
    """Ask until all workers have answered, and give what they know."""
    found: dict[int, str] = {}
    async with asyncio.timeout(PATIENCE):
        while len(found) < workers:
            version, worker = (await client.get("/version")).json()
            found[worker] = version
    return set(found.values())


async def answered(model: Model[int, Answer], number: int) -> Answer:
    """Call until it is answered: a call may be on its way to a process that has just died."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await model(number)
            except OwnerDied:
                await asyncio.sleep(0.01)


async def is_away(model: Model[int, Answer]) -> bool:
    """Tell whether its health check says that its process is away."""
    try:
        return await model.check() is not None
    except OwnerDied as error:
        return "has not been heard of" in str(error)


async def test_two_workers_load_once(place: Path, port: int) -> None:
    """The model is loaded by one process, in which the items of both workers are computed; it ends with the last."""
    del place
    with served(APP, port, 2):
        async with connected(port, "/version") as client:
            assert len(await versions(client, 2)) == 1
            answers = [
                answer.json() for answer in await asyncio.gather(*(client.get(f"/times/{n}") for n in range(20)))
            ]
    assert [times for times, _, _ in answers] == [2 * number for number in range(20)]
    owners = {owner for _, owner, _ in answers}
    assert len(owners) == 1
    assert len(lines("loads")) == 1
    [owner] = owners
    await until(lambda: gone(owner))


async def test_a_killed_model_fails_only_what_is_under_way(place: Path) -> None:
    """Kill -9: items under way raise `OwnerDied`, or are given once more where they may be; the next are answered."""
    async with running(app) as scope, running(also=[patient]) as other:
        model, again = await scope.get(multiplier), await other.get(patient)
        owners = [(await each(1)).process for each in (model, again)]
        under_way = [asyncio.create_task(each(999)) for each in (model, again)]
        await until(lambda: len(lines("held")) == 2)

        for owner in owners:
            os.kill(owner, signal.SIGKILL)

        with pytest.raises(OwnerDied):
            await under_way[0]
        (place / "go").touch()
        assert (await under_way[1]).times == 1998
        answer = await answered(model, 4)
        assert (answer.times, answer.process in owners) == (8, False)
        await until(lambda: model.stats.served >= 1)
        assert await model.check() is None


async def test_the_health_check_fails_while_the_process_is_away(place: Path) -> None:
    """Once a stopped process has been silent for some seconds, the check says so; it is well again after that."""
    del place
    async with running(app) as scope:
        model = await scope.get(multiplier)
        assert await model.check() is None
        owner = (await model(1)).process
        os.kill(owner, signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE):
                while not await is_away(model):
                    await asyncio.sleep(0.05)
        finally:
            os.kill(owner, signal.SIGCONT)
        async with asyncio.timeout(PATIENCE):
            while (await model(2)).times != 4:
                await asyncio.sleep(0.01)
        await until(lambda: model.stats.served >= 2)
        assert await model.check() is None


@pytest.mark.parametrize("victim", ["model", "keeper"])
async def test_what_it_was_swapped_for_outlives_its_process(place: Path, victim: str) -> None:
    """A swap is for all workers and stays when the model's process, or its keeper, is killed; not beyond the last."""
    async with running(app) as scope:
        model = await scope.get(multiplier)
        declared = model.version
        swapped = await model.swap(pinned(place, "5"))
        owner = (await model(1)).process
        os.kill(owner if victim == "model" else parent(owner), signal.SIGKILL)
        await until(lambda: gone(owner))
        assert (await answered(model, 4)).times == 20
        await until(lambda: model.version == swapped)
        owner = (await model(1)).process
    await until(lambda: gone(owner))
    async with running(app) as scope:
        model = await scope.get(multiplier)
        assert (model.version, (await model(4)).times) == (declared, 8)


@pytest.mark.timeout(240)  # 5,000 requests, on a machine that may be busy
async def test_no_request_fails_while_another_process_swaps_the_model(place: Path, port: int) -> None:
    """While two workers serve 5,000 requests, a command swaps the model six times: none fails, and both know of it."""
    outcomes = Counter[str]()
    with served(APP, port, 2):
        async with connected(port, "/version") as client:

            async def call() -> None:
                while outcomes.total() < 5000:
                    answer = await client.get("/times/7")
                    outcomes[f"{answer.status_code} {answer.json()[0]}"] += 1

            callers = [asyncio.create_task(call()) for _ in range(8)]
            async with running(app) as scope:
                model = await scope.get(multiplier)
                for turn, content in enumerate("353535", 1):
                    await until(lambda turn=turn: outcomes.total() >= 700 * turn)
                    version = await model.swap(pinned(place, content))
            await asyncio.gather(*callers)
            async with asyncio.timeout(PATIENCE):
                while await versions(client, 2) != {version}:
                    await asyncio.sleep(0.05)
    assert outcomes.total() >= 5000
    assert set(outcomes) == {"200 14", "200 21", "200 35"}


async def test_callers_that_leave_shift_no_results(place: Path) -> None:
    """Of 1,500 calls of a model in another process, 40 % cancelled at random: none hangs, and each gets its own."""
    del place
    chosen = random.Random(13)  # noqa: S311 (not for secrets)
    outcomes = Counter[str]()
    async with running(app) as scope:
        model: Model[int, Answer] = await scope.get(multiplier)

        async def call(number: int) -> None:
            while True:
                try:
                    answer = await model(number)
                except ModelBusy:
                    await asyncio.sleep(0.01)
                else:
                    break
            assert (answer.number, answer.times) == (number, 2 * number)

        async def maybe(number: int) -> None:
            task = asyncio.create_task(call(number))
            if chosen.random() < 0.4:
                for _ in range(chosen.randrange(40)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            outcomes["cancelled" if task.cancelled() else "answered"] += 1
            if not task.cancelled():
                task.result()

        async with asyncio.timeout(PATIENCE):
            for first in range(1000, 1000 + CALLS, 100):
                await asyncio.gather(*(maybe(number) for number in range(first, first + 100)))
        await until(lambda: model.stats.waiting == 0)
    assert outcomes["answered"] + outcomes["cancelled"] == CALLS
    assert outcomes["cancelled"] > 100
