"""What is measured of shared state is the same work for all; peers are verified by `make bench` itself."""

from __future__ import annotations

import re
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import tables
from benchmarks.contenders import TENURE
from benchmarks.results import Ratio
from benchmarks.rounds import Effort
from benchmarks.state import Plan, caching, counting, measure, topics, with_tenure
from benchmarks.state import interleaved as interleaving
from benchmarks.state.interleaved import awaited, compared, enough, interleaved
from benchmarks.state.subject import VALUE, Caching, Counting, Database, Sending
from benchmarks.verification import NotTheWork

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

REDIS = "redis-py"
QUICK = Plan(rounds=2, limit=0.2, seconds=0.0005, processes=8, messages=300, others=False)
IN_MEMORY = [work for work in caching.WORKS if work.in_memory]


@pytest.fixture(scope="module")
def run() -> tuple[list[str], list[Ratio]]:
    """Measure, and give what was told meanwhile and what was found."""
    told: list[str] = []
    return told, measure(told.append, QUICK)


def test_every_work_has_a_row_for_each(run: tuple[list[str], list[Ratio]]) -> None:
    """What servers share has rows of redis-py and tenure, what is in memory of tenure; each work is told of."""
    told, rows = run
    assert list(dict.fromkeys(row.title for row in rows)) == told
    assert len(told) == len(counting.TITLES) + len(caching.WORKS) + len(IN_MEMORY) + 2
    for title in told:
        names = [row.contender for row in rows if row.title == title]
        assert names == ([TENURE] if title.startswith("cache of the process") else [REDIS, TENURE])


def test_ratios_are_to_the_first(run: tuple[list[str], list[Ratio]]) -> None:
    """The first contender of a work is what the others are held against, in the same rounds."""
    rows = [row for row in run[1] if row.contender == TENURE and not row.work.startswith("cache of the process")]
    assert {row.against for row in rows} == {REDIS}
    assert {(row.against, row.ratio) for row in run[1] if row.contender == REDIS} == {("", 1)}
    assert all(row.low <= row.ratio <= row.high and 1 <= row.rounds <= QUICK.rounds for row in rows)


def test_loads_are_counted(run: tuple[list[str], list[Ratio]]) -> None:
    """A stampede says how often its value was loaded: with tenure once, without a word to the others often."""
    notes = {row.contender: row.note for row in run[1] if row.work == "cache of the host: stampede"}
    assert re.match(r"loaded \d+(\.\d)? times", notes[REDIS])
    assert notes[TENURE].startswith("loaded once")


async def test_loads_are_those_of_a_stampede() -> None:
    """Several stampedes in a row do not count as one that loads more often."""
    async with memory() as (contender, database):
        lane = caching.Lane(contender, database)
        await lane.stampede(3)
        (work,) = (work for work in caching.WORKS if work.id == "stampede")
        assert work.note(lane, 1) == "loaded once"


def test_counts_are_held_against_their_bars(run: tuple[list[str], list[Ratio]]) -> None:
    """Of all rows, tenure's four counts are amounts, three of them with a bar; none else is."""
    amounts = counting.amounts(run[1])
    assert [amount.bar for amount in amounts] == list(counting.BARS.values())
    assert {amount.contender for amount in amounts} == {TENURE}
    assert [amount.met is None for amount in amounts] == [bar is None for bar in counting.BARS.values()]


def test_a_process_that_fails_is_not_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """The run ends with the error of the process that measures, not with the rows that it had found before."""
    with pytest.raises(subprocess.CalledProcessError):
        measure(lambda _: None, replace(QUICK, processes=1))
    assert "NotTheWork: tenure has counted" in capfd.readouterr().err


@pytest.mark.parametrize("false", ["get", "get_or_load", "increment", "limit"])
async def test_a_cache_that_gives_something_else_is_refused(false: str) -> None:
    """Whatever it is that a contender does not do, it is not timed."""

    async def nothing(_: str) -> int:
        return 0

    async with memory() as (contender, database):
        await caching.Lane(contender, database).prepare()
    async with memory() as (contender, database):
        with pytest.raises(NotTheWork, match="tenure gives"):
            await caching.Lane(replace(contender, **{false: nothing}), database).prepare()


async def test_a_count_that_is_something_else_is_refused() -> None:
    """A contender that counts two for one is not timed."""
    counts: list[int] = []
    false = Counting("false", lambda: counts.extend([1, 1]), lambda: len(counts), lambda: counts.append(1))
    await counting.verify(false, counting.adding_in_thread(false), by=1)
    with pytest.raises(NotTheWork, match="false has counted 3 instead of 2"):
        await counting.verify(false, counting.adding(false), by=1)


@pytest.mark.parametrize("way", [topics.there_and_back, topics.many])
async def test_a_message_that_is_another_is_refused(way: Callable[[Sending, int], Awaitable[float]]) -> None:
    """A contender that loses a message is not timed."""

    async def publish(_: object) -> None: ...

    async def receive() -> object:
        return VALUE if next(left) else "MISSED"

    left = iter([True, True, True])
    assert await way(Sending("false", publish, receive), 3) > 0
    left = iter([True, True, False])
    with pytest.raises(NotTheWork, match="false receives 'MISSED'"):
        await way(Sending("false", publish, receive), 3)


async def test_everyone_is_first_in_turn() -> None:
    """Each round begins with another contender, and none has more or fewer rounds than the others."""
    order: list[str] = []

    async def timed(name: str, times: int) -> float:
        order.append(name)
        return 1 / times

    names = ("one", "two", "three")
    taking_part = {name: lambda times, name=name: timed(name, times) for name in names}
    found = await interleaved(taking_part, Effort(rounds=3, seconds=1), calls=1)
    assert order == ["one", "two", "three", "two", "three", "one", "three", "one", "two"]
    assert found == {name: [1, 1, 1] for name in names}


async def test_calls_are_as_many_as_fill_the_time() -> None:
    """What takes long is called once in a round, and what is quick as often as the round has time for."""

    async def slow(_: int) -> float:
        return 2.0

    async def quick(_: int) -> float:
        return 0.001

    assert await enough(slow, 0.5) == 1
    assert await enough(quick, 0.5) == 500


async def test_awaited_gives_the_time_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number is called once and in order; what disturbs less than a half of the calls is not in what is told."""
    calls: list[int] = []
    now = 0.0

    async def call(number: int) -> None:
        nonlocal now
        calls.append(number)
        now += 100 if number < 20 else 2

    monkeypatch.setattr(interleaving, "perf_counter", lambda: now)
    assert await awaited(call, 55) == 2
    assert calls == list(range(54))  # the last would be a piece of its own


def test_the_table_says_each_title_once() -> None:
    """A work's contenders stand below one another; the first has no quartiles, tenure is bold."""
    found = {"plain": [1e-6, 1e-6, 1e-6], TENURE: [0.136e-6] * 3}
    rows = [*compared("one", "one thing", found, {TENURE: "a note"}), *compared("two", "another", {"slow": [2.0]}, {})]
    lines = tables.state(rows).splitlines()[2:]
    assert lines == [
        "| one thing | plain | 1.0 µs | 1.00 |  |  |",
        "|  | **tenure** | **136 ns** | **0.14** | 0.14 to 0.14 | a note |",
        "| another | slow | 2000.0 ms | 1.00 |  |  |",
    ]
    assert tables.state([]) == "Not measured in this run."


@pytest.mark.parametrize(("ratio", "said"), [(57.431, "57.43"), (0.164, "0.16"), (0.0012, "0.0012"), (0.018, "0.018")])
def test_a_small_ratio_keeps_its_digits(ratio: float, said: str) -> None:
    """A ratio of a thousandth is not said as 0.00."""
    assert tables.digits(ratio) == said


@asynccontextmanager
async def memory() -> AsyncGenerator[tuple[Caching, Database]]:
    """Run tenure's cache in memory, and what it loads from."""
    database = Database()
    async with with_tenure.caching("app", database) as contender:
        yield contender, database
