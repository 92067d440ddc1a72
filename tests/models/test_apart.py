"""A model at host scope lives in a process of its own, is called as one at app scope is, and is loaded once."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from tenure import override, running
from tenure.errors import ModelRefused, StartFailed
from tenure.models import Model, ModelBusy, ModelLate
from tests.models.served import Answer, app, here, lines, multiplier, note, vectors
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.conftest import Pinned

DEADLINE = 30

Times = Model[int, Answer]


async def test_a_model_computes_in_a_process_of_its_own(times: Times) -> None:
    """Results are what the annotations of its class say, and were made in another process."""
    answer = await times(21)
    assert answer == Answer(21, 42, answer.process)
    assert answer.process != os.getpid()
    assert [each.times for each in await times.many(range(30))] == [2 * number for number in range(30)]
    assert times.version.startswith("multiplier@")


async def test_a_bad_item_of_a_worker_fails_alone(times: Times) -> None:
    """Of items that are computed together, the one at fault raises what the model raised."""
    results = await asyncio.gather(*(times(number) for number in (1, 2, -3, 4)), return_exceptions=True)
    assert [each.times for each in results if isinstance(each, Answer)] == [2, 4, 8]
    assert isinstance(results[2], ValueError)
    assert str(results[2]) == "-3 is below 0"


async def test_what_is_late_is_refused_with_504(times: Times) -> None:
    """Who waits longer than allowed is told so; the model goes on."""
    with pytest.raises(ModelLate) as raised:
        await times.within(0.2)(999)
    assert raised.value.status == 504
    here("go").touch()
    assert (await times(1)).times == 2


async def test_room_refuses_before_the_body_is_validated(times: Times) -> None:
    """While the queue is full, a request whose body is wrong gets 503, with a time to come back at; afterwards, 422."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        held = [asyncio.create_task(times(999))]
        await until(here("held").exists)
        held += [asyncio.create_task(times(number)) for number in range(20)]
        await until(lambda: times.stats.waiting == 20)
        refused = await client.post("/guarded", json="no number")
        here("go").touch()
        await asyncio.gather(*held)
        await until(lambda: times.stats.waiting == 0)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await client.post("/guarded", json="no number")).status_code == 422
        assert (await client.post("/guarded", json=4)).json() == 8
    assert times.stats.refused == 1


async def test_a_full_queue_refuses_exactly(times: Times) -> None:
    """With one batch held up and as many waiting as may, one more is refused; all others are answered."""
    held = asyncio.create_task(times(999))
    await until(here("held").exists)
    waiting = [asyncio.create_task(times(number)) for number in range(25)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION, timeout=DEADLINE)
    refused = [task for task in waiting if task in done]
    assert refused
    here("go").touch()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(result, ModelBusy) for result in results) == 5
    assert sum(isinstance(result, Answer) for result in results) == 20
    assert (await held).times == 1998
    busy = next(result for result in results if isinstance(result, ModelBusy))
    assert int((busy.headers or {})["Retry-After"]) >= 1


async def test_arrays_cross_as_they_are(place: Path) -> None:
    """A model of two files gives arrays of the same type and shape."""
    del place
    async with running(also=[vectors]) as scope:
        model = await scope.get(vectors)
        array = await model(np.arange(6.0).reshape(2, 3))
    assert array.dtype == np.float64
    assert (array == np.arange(6.0).reshape(2, 3) * 2 + 2).all()


async def test_a_file_that_is_refused_stops_the_start(place: Path, pinned: Pinned) -> None:
    """What the model's process refuses is told by the worker that would start it, in the same words."""
    file = pinned("three.txt", "3")
    (place / "three.txt").write_text("4")
    (place / "declared").write_text(f"{file.path}\n{file.sha256}\n")
    with pytest.raises(
        StartFailed, match=r"`multiplier` did not start: the model file three.txt has the checksum"
    ) as raised:
        async with running(app):
            pass
    assert isinstance(raised.value.__cause__, ModelRefused)


async def test_a_swap_is_seen_by_all_and_loses_nothing(times: Times, pinned: Pinned) -> None:
    """While 8 callers go on, the model is swapped five times: each call is answered by one of the models."""
    stop = asyncio.Event()
    counts = {"calls": 0}

    async def call() -> None:
        while not stop.is_set():
            answer = await times(7)
            assert answer.times in {14, 21, 35}
            counts["calls"] += 1

    callers = [asyncio.create_task(call()) for _ in range(8)]
    for content in ("3", "5", "3", "5", "3"):
        version = await times.swap(pinned(f"{content}.txt", content))
        assert times.version == version
        assert (await times(10)).times == 10 * int(content)
        before = counts["calls"]
        await until(lambda before=before: counts["calls"] >= before + 50)
    stop.set()
    await asyncio.gather(*callers)
    assert counts["calls"] >= 250
    assert len(lines("loads")) == 6


async def test_a_swap_that_fails_leaves_the_model(times: Times, pinned: Pinned) -> None:
    """What cannot be loaded is refused with the reason, and the one before goes on."""
    version = times.version
    with pytest.raises(Exception, match="could not be loaded: ValueError"):
        await times.swap(pinned("word.txt", "no number"))
    assert (times.version, (await times(3)).times) == (version, 6)


async def test_a_swap_that_takes_too_long_is_none(
    times: Times, pinned: Pinned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded only after its time is up is not switched to, then or later; the next swap is as any."""
    before = times.version
    note("slow", "8")
    with monkeypatch.context() as brief:
        brief.setattr(times, "_swap_timeout", 0.2)  # it is as long as a start may take, which is too long for a test
        swap = asyncio.create_task(times.swap(pinned("8.txt", "8")))
        await until(lambda: len(lines("loads")) == 2)
        await asyncio.sleep(0.3)  # so that its time is up
        here("slow").unlink()
        with pytest.raises(ModelLate, match=f"could not be swapped in time: {before} is still called"):
            await swap
    assert (times.version, (await times(3)).times) == (before, 6)
    await times.swap(pinned("9.txt", "9"))
    assert (await times(3)).times == 27


async def test_an_override_starts_nothing(place: Path) -> None:
    """A double needs to be called, and nothing else: no file is read, no process started; `room` lets all in."""

    class Double:
        async def __call__(self, number: int) -> Answer:
            return Answer(number, -1, 0)

    (place / "declared").unlink()
    with override(app, {multiplier: Double}), TestClient(app) as client:
        assert client.get("/times/3").json()[:2] == [-1, 0]
        assert client.post("/guarded", json=3).json() == -1
    note("loads", "none")
    assert lines("loads") == ["none"]
