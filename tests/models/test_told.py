"""What each worker tells of a model that all of them call: together all that its process has done, nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from tenure import lifespan, running
from tenure.models import Model, ModelBusy, ModelLate, model
from tests.models.served import Answer, here, multiplier
from tests.telemetry.keeping import Kept
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.conftest import Pinned

Times = Model[int, Answer]


class Worker:
    """An app of a deployment, with its handle on the model and a collector of its own, as each worker may have."""

    def __init__(self, title: str) -> None:
        self.kept = Kept()
        self.app = FastAPI(
            title=title, lifespan=lifespan(deployment="told", also=[multiplier]), telemetry=self.kept.telemetry
        )
        self.model: Times

    async def start(self, stack: AsyncExitStack) -> None:
        """Run it until the stack is closed."""
        scope = await stack.enter_async_context(running(self.app))
        self.model = await scope.get(multiplier)

    def told(self, measure: str) -> float:
        """Collect one measure; 0 where this worker has nothing to tell."""
        return sum(point.value for point in self.kept.points(f"tenure.model.{measure}"))


async def test_one_worker_speaks_for_all_and_another_when_it_has_gone(place: Path) -> None:
    """What workers have told adds up to what was computed, though the one that spoke leaves in the middle."""
    del place
    one, other = Worker("one"), Worker("other")
    async with AsyncExitStack() as rest, AsyncExitStack() as first:
        await one.start(first)
        await until(lambda: one.told("queue.max") == 20)
        await other.start(rest)
        await asyncio.gather(*(worker.model(number) for worker in (one, other) for number in range(5)))
        await until(lambda: one.model.stats.served == other.model.stats.served == 10)
        assert (one.told("served"), other.told("served")) == (10, 0)
        assert other.kept.points("tenure.model.queue.size") == []
        assert one.told("batch.items") == 10
        assert one.told("batch.duration") > 0
        [version] = one.kept.points("tenure.model.info")
        assert version.attributes == {
            "tenure.app": "one",
            "tenure.model": "multiplier",
            "tenure.scope": "host",
            "tenure.model.version": one.model.version,
        }
        await first.aclose()
        assert one.kept.points("tenure.model.queue.size") == []
        await asyncio.gather(*(other.model(number) for number in range(3)))
        await until(lambda: other.told("served") == 3)
        assert (other.told("queue.max"), other.model.stats.served) == (20, 13)


async def test_a_process_that_starts_anew_counts_on(place: Path) -> None:
    """Its own counts begin at 0; what the worker tells goes on from where it was, so that nothing falls."""
    del place
    worker = Worker("one")
    async with AsyncExitStack() as stack:
        await worker.start(stack)
        answers = [await worker.model(number) for number in range(4)]
        await until(lambda: worker.told("served") == 4)
        os.kill(answers[0].process, signal.SIGKILL)
        await until(lambda: worker.model.stats.is_away)
        assert worker.kept.points("tenure.model.served") == []
        await until(lambda: not worker.model.stats.is_away)
        assert (await worker.model(1)).process != answers[0].process
        await until(lambda: worker.told("served") == 5)
        assert worker.model.stats.served == 1


async def test_what_a_worker_says_by_itself_is_counted_for_all(place: Path) -> None:
    """Who finds no room in one worker, or waits there for too long, is in the counts that another worker has."""
    del place
    one, other = Worker("one"), Worker("other")
    async with AsyncExitStack() as stack:
        await one.start(stack)
        await other.start(stack)
        held = asyncio.create_task(one.model(999))
        await until(here("held").exists)
        with pytest.raises(ModelLate):
            await one.model.within(0.2)(1)
        waiting = [asyncio.create_task(other.model(number)) for number in range(20)]
        for _ in range(7):
            await until(lambda: refuses(other.model))
        assert other.model.stats.refused == 7
        await until(lambda: one.model.stats.refused == 7)
        await until(lambda: one.model.stats.late == other.model.stats.late == 1)
        assert (one.model.stats.dropped, other.model.stats.refused) == (1, 7)
        here("go").touch()
        await asyncio.gather(held, *waiting)
        await until(lambda: other.model.stats.served == 21)
        assert (one.told("refused"), one.told("late"), other.told("refused")) == (7, 1, 0)


def refuses(model: Times) -> bool:
    """Tell whether there is no room."""
    try:
        model.refuse_if_full()
    except ModelBusy:
        return True
    return False


async def test_statistics_have_an_age(times: Times) -> None:
    """Those of another process are at most a second old, and are read without asking it, from any thread."""
    await times(1)
    await until(lambda: times.stats.served == 1)
    stats = await asyncio.to_thread(lambda: times.stats)
    assert (stats.max_batch, stats.max_queue, stats.is_away) == (8, 20, False)
    for _ in range(20):
        assert 0 <= times.stats.age < 3
        await asyncio.sleep(0.02)


async def test_each_worker_tells_of_a_model_of_its_own(place: Path, pinned: Pinned) -> None:
    """At app scope each app has all of its model to tell, with the version that it calls."""
    del place
    kept = Kept()
    doubler: Any = model(load=lambda content: lambda items: items, file=pinned("a.txt", "a"), name="doubler")

    apps = [
        FastAPI(title=title, lifespan=lifespan(also=[doubler]), telemetry=kept.telemetry) for title in ("one", "two")
    ]
    async with running(apps[0]) as one, running(apps[1]):
        await (await one.get(doubler))(1)
        served = {point.attributes["tenure.app"]: point.value for point in kept.points("tenure.model.served")}
        assert served == {"one": 1, "two": 0}
    assert kept.points("tenure.model.served") == []
