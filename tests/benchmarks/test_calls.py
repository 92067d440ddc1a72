"""Calls are there and back with the same bytes; peers that `make test` does not install are verified by the run."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks.calls import Plan, measure, starting
from benchmarks.calls.__main__ import verify
from benchmarks.calls.subject import Calling
from benchmarks.elsewhere.results import call_of

QUICK = Plan(rounds=2, calls=20, contenders=("tenure", "multiprocessing.managers"))


def test_every_contender_calls_in_every_round() -> None:
    """Each has its rounds, of a lone caller and of many at once; what is done is told meanwhile."""
    told: list[str] = []
    found = {each.name: each for each in measure(told.append, QUICK)}
    assert list(found) == [
        "tenure",
        "tenure, a sync method",
        "multiprocessing.managers, in threads",
        "multiprocessing.managers, blocking",
    ]
    assert told[-1] == "round trips of 4 KB, round 2 of 2"
    for each in found.values():
        assert [len(calls) for calls in each.alone] == [20, 20]
        assert len(each.at_once) == 2
        row = call_of(each)
        assert 0 < row.p50 <= row.p99
        assert row.per_second > 0
        assert row.blocks == each.name.endswith("blocking")


async def test_who_mixes_answers_up_is_refused() -> None:
    """A contender that gives one caller the bytes of another is not timed."""
    before = b""

    async def call(data: bytes) -> bytes:
        nonlocal before
        data, before = before, data
        return data

    with pytest.raises(AssertionError, match="false gives back something else"):
        await verify(Calling("false", call))


def test_a_process_that_fails_is_not_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """The run ends with the error of the process that measures."""
    with pytest.raises(subprocess.CalledProcessError):
        measure(lambda _: None, Plan(rounds=1, calls=1, contenders=("nobody",)))
    assert "KeyError: 'nobody'" in capfd.readouterr().err


def test_a_death_is_told_in_steps() -> None:
    """From the kill on, each step takes some time, and all of them are the whole."""
    whole, *steps = starting.measure(lambda _: None, 1)
    assert [step.title for step in steps] == list(starting.STEPS)
    assert all(step.value > 0 for step in steps)
    assert whole.value == pytest.approx(sum(step.value for step in steps), abs=1)
    assert whole.bar == starting.BAR
