"""What a cached value costs, over a server that processes share, and in the memory of one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.state import with_redis, with_tenure
from benchmarks.state.interleaved import awaited, compared, interleaved
from benchmarks.state.subject import LOAD, VALUE, Database
from benchmarks.verification import NotTheWork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from benchmarks.results import Ratio
    from benchmarks.state.plan import Plan
    from benchmarks.state.subject import Caching

KEYS = 1_000
"""Over how many keys reads and writes go, in turn."""
AT_ONCE = 32
WANTING = 64


class Lane:
    """A contender that takes part: its keys, and what it loads from."""

    def __init__(self, contender: Caching, database: Database) -> None:
        self.contender = contender
        self.database = database
        self.keys = [f"{contender.prefix}user:{number}" for number in range(KEYS)]
        self.missing = (f"{contender.prefix}missing:{number}" for number in count())
        self.stampedes = 0

    async def read(self, times: int) -> float:
        """Read what is there."""
        get, keys = self.contender.get, self.keys
        return await awaited(lambda number: get(keys[number % KEYS]), times)

    async def read_or_load(self, times: int) -> float:
        """Read what would be loaded, were it not there."""
        get_or_load, keys = self.contender.get_or_load, self.keys
        return await awaited(lambda number: get_or_load(keys[number % KEYS]), times)

    async def keep(self, times: int) -> float:
        """Write."""
        keep, keys = self.contender.set, self.keys
        return await awaited(lambda number: keep(keys[number % KEYS], VALUE), times)

    async def increment(self, times: int) -> float:
        """Add to one number."""
        increment, key = self.contender.increment, f"{self.contender.prefix}number"
        return await awaited(lambda _: increment(key), times)

    async def limit(self, times: int) -> float:
        """Add to one number that expires."""
        limit, key = self.contender.limit, f"{self.contender.prefix}limit"
        return await awaited(lambda _: limit(key), times)

    async def read_at_once(self, times: int) -> float:
        """Read many at a time, and give the seconds of one."""
        get, keys = self.contender.get, self.keys[:AT_ONCE]
        return await awaited(lambda _: asyncio.gather(*map(get, keys)), max(1, times // AT_ONCE)) / AT_ONCE

    async def stampede(self, times: int) -> float:
        """Let many want what is not there, and give the seconds until the last has it."""
        taken = 0.0
        for _ in range(times):
            key = next(self.missing)
            begin = perf_counter()
            await asyncio.gather(*(self.contender.get_or_load(key) for _ in range(WANTING)))
            taken += perf_counter() - begin
        self.stampedes += times
        return taken / times

    async def prepare(self) -> None:
        """
        Keep what is read, and see that the contender does all of the work.

        Raises:
            NotTheWork: It does not.
        """
        for each in self.keys:
            await self.contender.set(each, VALUE)
        key, contender = next(self.missing), self.contender
        seen = [await contender.get(self.keys[0]), await contender.get(key)]
        seen += [await contender.get_or_load(key), await contender.get(key), self.database.loads]
        seen += [await add(f"{key}:{add}") for add in (contender.increment, contender.limit) for _ in range(2)]
        expected = [VALUE, None, VALUE, VALUE, 1, 1, 2, 1, 2]
        if seen != expected:
            msg = f"{contender.name} gives {seen} instead of {expected}"
            raise NotTheWork(msg)
        self.database.loads = 0


@dataclass(frozen=True)
class Work:
    """
    What is done with a cache.

    Attributes:
        id: The word for it in results.json.
        title: What tables call it.
        does: Does it so many times.
        in_memory: Whether it is a question for what lives in one process too.
    """

    id: str
    title: str
    does: Callable[[Lane, int], Awaitable[float]]
    in_memory: bool = True

    def note(self, lane: Lane, seconds: float) -> str:
        """Say what the number alone does not."""
        notes = [lane.contender.notes.get(self.id, "")]
        if self.id == "stampede":
            loads = lane.database.loads / lane.stampedes
            notes.insert(0, "loaded once" if loads == 1 else f"loaded {loads:.3g} times")
        if self.id == "at-once":
            notes.insert(0, f"{1 / seconds:,.0f} in a second")
        return "; ".join(filter(None, notes))


WORKS = (
    Work("get", "a value is read", Lane.read),
    Work("set", "a value is kept for a minute", Lane.keep),
    Work("get_or_load", "a value is read, else loaded; it is there", Lane.read_or_load),
    Work("increment", "one is added to a number", Lane.increment),
    Work("limit", "one is added to a number that expires", Lane.limit),
    Work("at-once", f"{AT_ONCE} reads at once, the time of one", Lane.read_at_once, in_memory=False),
    Work("stampede", f"{WANTING} want one that loads in {LOAD * 1000:g} ms", Lane.stampede),
)


async def measure(url: str, plan: Plan, advance: Callable[[str], object]) -> list[Ratio]:
    """
    Compare those that share a server, then those that keep values in this process.

    Raises:
        NotTheWork: A contender gives something else.
    """
    cashews = import_module("benchmarks.state.with_cashews") if plan.others else None
    shared = [partial(with_redis.caching, url), *([partial(cashews.caching, url)] if cashews else [])]
    alone = [cashews.as_json, cashews.in_memory] if cashews else []
    tenure = partial(partial, with_tenure.caching)
    in_memory = [each for each in WORKS if each.in_memory]
    return [
        *await _compare("cache of the host", WORKS, [*shared, tenure("host")], plan, advance),
        *await _compare("cache of the process", in_memory, [*alone, tenure("app")], plan, advance),
    ]


async def _compare(
    kind: str,
    works: Sequence[Work],
    contenders: Sequence[Callable[[Database], AbstractAsyncContextManager[Caching]]],
    plan: Plan,
    advance: Callable[[str], object],
) -> list[Ratio]:
    rows: list[Ratio] = []
    async with AsyncExitStack() as stack:
        lanes: dict[str, Lane] = {}
        for contender in contenders:
            database = Database()
            lane = Lane(await stack.enter_async_context(contender(database)), database)
            await lane.prepare()
            lanes[lane.contender.name] = lane
        for work in works:
            title = f"{kind}: {work.title}"
            advance(title)
            found = await interleaved({name: partial(work.does, lane) for name, lane in lanes.items()}, plan.effort)
            notes = {name: work.note(lane, median(found[name])) for name, lane in lanes.items()}
            rows += compared(f"{kind}: {work.id}", title, found, notes)
    return rows
