"""Interleaved rounds: every case of a work is timed in each of them, in an order that moves on."""

from __future__ import annotations

import asyncio
import gc
import resource
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.driver import Client, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from benchmarks.cases import Case

WARM_UP = 40
"""Requests before a case is timed, each time: others have had the processor's caches, and Python specialises anew."""

ATTEMPTS = 3
"""How often a case is timed anew in a round because something else had the processor meanwhile."""


@dataclass(frozen=True)
class Effort:
    """
    How much is measured.

    Attributes:
        rounds: How many rounds there are.
        seconds: How long one case takes in one round, about.
        limit: Seconds after which no further round of a work is begun, on a machine that is busy.
    """

    rounds: int
    seconds: float
    limit: float = 60


@dataclass
class Timing:
    """
    What a case took.

    Attributes:
        case: Which.
        means: Microseconds per request, the mean of each round.
        ratios: The same, over what the case that it is held against took in the same round.
    """

    case: Case
    means: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        """The median of the rounds' means."""
        return median(self.means)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios) if self.ratios else 1.0

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which a half of the rounds' ratios is."""
        return quartiles(self.ratios or [1.0])

    @property
    def spread(self) -> float:
        """How far the quartiles are apart."""
        low, high = self.quartiles
        return high - low


class Lane:
    """A case that takes part in the rounds: its app, running all the time or, if it restarts, while it is timed."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.app = case.build()
        self.requests = 10
        self.kept: Client | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Run the app for a block."""
        with self.case.environment():
            async with started(self.app) as state:
                self.case.after_start(self.app)
                client = Client(self.app, self.case.work, state)
                yield client

    async def calibrate(self, seconds: float) -> None:
        """Find how many requests take about so long."""
        await self.time()
        self.requests = max(5, round(seconds / await self.time()))

    async def time(self) -> float:
        """Give the seconds that a request takes, the mean of one round's."""
        if self.kept is not None:
            return await self._time(self.kept)
        async with self.running() as client:
            return await self._time(client)

    async def _time(self, client: Client) -> float:
        await client.send(min(WARM_UP, 2 * self.requests))
        gc.collect()  # what the one before has left behind is not for this one to clear up
        taken = 0.0
        for _ in range(ATTEMPTS):
            switches = involuntary()
            begin = perf_counter()
            await client.send(self.requests)
            taken = (perf_counter() - begin) / self.requests
            if involuntary() == switches:
                break
        return taken


def quartiles(ratios: Sequence[float]) -> tuple[float, float]:
    """Give between which a half of them is."""
    if len(ratios) < 2:  # noqa: PLR2004 (a quartile needs two)
        return ratios[0], ratios[0]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return low, high


def involuntary() -> int:
    """Count how often this thread's processor was given to something else."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


async def measure(cases: Sequence[Case], effort: Effort, advance: Callable[[], None]) -> list[Timing]:
    """Time cases of one work; `advance` is told of each round."""
    timings = [Timing(case) for case in cases]
    async with AsyncExitStack() as stack:
        lanes = [Lane(case) for case in cases]
        for lane in lanes:
            if not lane.case.contender.restarts:
                lane.kept = await stack.enter_async_context(lane.running())
            await lane.calibrate(effort.seconds)
        gc.collect()
        gc.freeze()  # no app has to walk the objects of all the others
        stack.callback(gc.unfreeze)
        begin = perf_counter()
        for number in range(effort.rounds):
            if perf_counter() - begin > effort.limit:
                break
            first = number % len(lanes)
            for index in (*range(first, len(lanes)), *range(first)):
                timings[index].means.append(await lanes[index].time() * 1e6)
            advance()
            await asyncio.sleep(0)
    by_name = {timing.case.name: timing for timing in timings}
    for timing in timings:
        if timing.case.against is not None:
            reference = by_name[timing.case.against].means
            timing.ratios = [mine / its for mine, its in zip(timing.means, reference, strict=True)]
    return timings
