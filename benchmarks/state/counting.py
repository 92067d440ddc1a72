"""What a count of the host costs: an add from the event loop and from any thread, and its value over many processes."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib import import_module
from statistics import median
from threading import Thread
from timeit import Timer
from typing import TYPE_CHECKING

from benchmarks.contenders import TENURE
from benchmarks.results import Amount
from benchmarks.state import with_redis, with_tenure
from benchmarks.state.interleaved import awaited, compared, interleaved
from benchmarks.verification import NotTheWork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Self

    from benchmarks.results import Ratio
    from benchmarks.state.interleaved import Timed
    from benchmarks.state.plan import Plan
    from benchmarks.state.subject import Counting

CALLS = 200
"""How many are timed at once: few, so that most of these times are undisturbed, whatever else the machine does."""
BARS = {"count-loop": 150, "count-loop-of-2": None, "count-thread": 350, "count-value": 3_000}
"""Nanoseconds that tenure may take."""
TITLES = {
    "count-loop": "an add to a count of the host, from the event loop",
    "count-loop-of-2": "the same, beside another process that counts",
    "count-thread": "the same, from any other thread",
    "count-value": "its value over {processes} processes",
}
NOTES = {
    "count-loop-of-2": "an add gives the new value, and so reads what the other process has added",
    "count-value": "each a living process with a row of its own",
}
"""What tenure does there."""


def amounts(rows: Iterable[Ratio]) -> list[Amount]:
    """Hold tenure's counts, of all rows, against their bars."""
    return [
        Amount(
            "count",
            row.title,
            TENURE,
            round(row.microseconds * 1000),
            "ns",
            bar=BARS[row.work],
            note=NOTES.get(row.work, ""),
        )
        for row in rows
        if row.contender == TENURE and row.work in BARS
    ]


async def measure(url: str, plan: Plan, advance: Callable[[str], object]) -> list[Ratio]:
    """
    Count in this process, and in forked children of it.

    Raises:
        NotTheWork: A contender does not count what it is told to, or not for all processes.
    """
    rows: list[Ratio] = []
    async with AsyncExitStack() as stack:
        contenders: list[Counting] = []
        if plan.others:
            contenders.append(import_module("benchmarks.state.with_prometheus").counting())
        contenders.append(await stack.enter_async_context(with_redis.counting(url)))
        contenders.append(await stack.enter_async_context(with_tenure.counting()))

        async def compare(work: str, does: Callable[[Counting], Timed]) -> None:
            title = TITLES[work].format(processes=plan.processes)
            advance(title)
            for contender in contenders:
                await verify(contender, does(contender), by=0 if does is valuing else 1)
            found = await interleaved({each.name: does(each) for each in contenders}, plan.effort)
            rows.extend(compared(work, title, found, {}))

        here = [each for each in contenders if not each.waits]
        await compare("count-loop", adding)
        with Children(here, 1):
            await compare("count-loop-of-2", adding)
            await compare("count-thread", adding_in_thread)
            before = [await valued(each) for each in here]
            with Children(here, plan.processes - 2):
                for contender, value in zip(here, before, strict=True):
                    expect(contender, await valued(contender), value + plan.processes - 2)
                await compare("count-value", valuing)
    return rows


def adding(contender: Counting) -> Timed:
    """Add in the event loop."""
    return timed(contender, contender.add)


def valuing(contender: Counting) -> Timed:
    """Read in the event loop."""
    return timed(contender, contender.value)


def timed(contender: Counting, function: Callable[[], Any]) -> Timed:
    """Time what waits for a server as it waits, and the other as it is."""
    return partial(awaited, lambda _: function()) if contender.waits else partial(repeated, function)


def adding_in_thread(contender: Counting) -> Timed:
    """Add in another thread."""
    return partial(repeated_in_thread, contender.add_in_thread)


async def repeated(function: Callable[[], object], times: int) -> float:
    """Call it so many times, and give the seconds of one."""
    return clocked(function, times)


async def repeated_in_thread(function: Callable[[], object], times: int) -> float:
    """Call it so many times in another thread, which has the processor for itself."""
    found: list[float] = []
    thread = Thread(target=lambda: found.append(clocked(function, times)))
    thread.start()
    thread.join()
    return found[0]


def clocked(function: Callable[[], object], times: int) -> float:
    """Call it so many times, and give the seconds of one; what else the machine does for a moment does not matter."""
    calls = min(times, CALLS)
    timer = Timer(function)  # whose loop is compiled for this function alone
    return median(timer.timeit(calls) / calls for _ in range(times // calls))


async def verify(contender: Counting, does: Timed, *, by: int) -> None:
    """
    See that what is timed adds what it should.

    Raises:
        NotTheWork: It does not.
    """
    before = await valued(contender)
    await does(1)
    expect(contender, await valued(contender), before + by)


async def valued(contender: Counting) -> float:
    """Give the count."""
    found = contender.value()
    return float(await found if contender.waits else found)


def expect(contender: Counting, actual: float, expected: float) -> None:
    """Refuse a contender that counts something else."""
    if actual != expected:
        msg = f"{contender.name} has counted {actual:g} instead of {expected:g}"
        raise NotTheWork(msg)


class Children:
    """Forked processes that have counted, and live as long as the block."""

    def __init__(self, contenders: Sequence[Counting], number: int) -> None:
        self._contenders = contenders
        self._number = number

    def __enter__(self) -> Self:
        self._ready, ready = os.pipe()
        self._until, self._stop = os.pipe()
        self._pids = [self._fork(ready) for _ in range(self._number)]
        for _ in self._pids:
            os.read(self._ready, 1)
        return self

    def _fork(self, ready: int) -> int:
        pid = os.fork()
        if pid == 0:
            os.close(self._stop)
            with suppress(BaseException):
                for contender in self._contenders:
                    contender.add()
                os.write(ready, b".")
                os.read(self._until, 1)  # ends when the parent closes its side
            os._exit(0)
        return pid

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)
        for pid in self._pids:
            os.waitpid(pid, 0)
