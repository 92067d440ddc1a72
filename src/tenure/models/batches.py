"""Items of many callers, gathered into batches for a function that blocks, which runs in threads of its own."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from functools import partial
from random import randint
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tenure.models.batching import Counts
from tenure.models.computing import answer, computed
from tenure.models.errors import ModelBusy, ModelClosed, ModelFailed, ModelLate
from tenure.origin import FROM_A_THREAD, Origin
from tenure.remote.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenure.models.batching import Batching
    from tenure.models.computing import Function

T = TypeVar("T")
R = TypeVar("R")

SPARE = 64
"""Items whose callers have left that may stay in the queue, beside as many as those that wait."""
RECENT = 0.2
"""How much the latest batch counts in the moving average of what one takes."""


@dataclass(slots=True, eq=False)
class _Item:
    value: Any
    result: asyncio.Future[Any]
    since: float
    cost: float
    waits: bool = True


class _Version(Generic[T, R]):
    """A function, and how many batches it computes now."""

    def __init__(self, function: Function[T, R]) -> None:
        self.function = function
        self.running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def begins(self) -> None:
        """Note that a batch begins."""
        self.running += 1
        self.idle.clear()

    def ends(self) -> None:
        """Note that a batch has ended."""
        self.running -= 1
        if not self.running:
            self.idle.set()


class Batcher(Generic[T, R]):
    """
    Calls a function with the items of many callers. Belongs to the process and event loop in which it was made.

    There is no task that runs all the time: whoever gives an item, and each batch that ends, sees to the next batch.
    An item whose caller has left is taken out before a batch is cut, and the list that was cut is the list that is
    answered, so that nobody gets another's result.

    Args:
        name: What errors call the model.
        function: Gives a result for each item of a list, in their order.
        batching: How items are gathered.

    Attributes:
        counts: What it has done.
        on_full: Called whenever the queue has become full, or no longer is.
    """

    def __init__(self, name: str, function: Function[T, R], batching: Batching) -> None:
        self.name = name
        self.batching = batching
        self.counts = Counts()
        self.on_full: Callable[[], None] = lambda: None
        self._origin = Origin()
        self._loop = self._origin.loop
        self._turns = Turns(batching.workers, f"tenure: {name}")
        self._current = _Version(function)
        self._queue: deque[_Item] = deque()
        self._waiting = 0
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._over = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return self._waiting

    @property
    def running(self) -> int:
        """How many batches are computed."""
        return self._running

    @property
    def is_full(self) -> bool:
        """Whether no further item may wait."""
        return self._waiting >= self.batching.max_queue

    def refuse_elsewhere(self) -> None:
        """
        Refuse a call where or when it cannot be answered.

        Raises:
            ModelClosed: It is being closed, or was.
            OtherProcess: This is not the process in which it was made.
            OtherLoop: This is not the event loop in which it was made.
        """
        if self._is_closing:
            raise self._closed()
        self._origin.refuse_other_process(self.name)
        self._origin.refuse_other_loop(self.name, hint=FROM_A_THREAD)

    def refuse_full(self, items: int = 1) -> None:
        """
        Refuse items for which there is no room.

        Raises:
            ModelBusy: As many wait as may.
        """
        if self._waiting + items > self.batching.max_queue:
            self.counts.refused += items
            raise busy(self.name, self._waiting, self.retry_after())

    def retry_after(self) -> int:
        """Give whole seconds after which what waits now will have been computed, as batches go at present."""
        batches = self._waiting / self.batching.max_batch + self._running
        return max(1, math.ceil(batches * self.counts.batch_seconds / self.batching.workers))

    async def one(self, value: T, seconds: float | None) -> R:
        """
        Give the result of one item; one that is cancelled is not computed, if it has not begun.

        Args:
            value: The item.
            seconds: How long that may take; as long as it takes if nothing is given.

        Raises:
            ModelBusy: As many items wait as may.
            ModelLate: It was not computed in time.
            ModelClosed: It came after the close had begun, or was not computed before its end.
            ModelFailed: Its cost is no number.
            Exception: What the function has raised for this item.
        """
        self.refuse_elsewhere()
        self.refuse_full()
        item = self._put(value, self.batching.cost_of(value))
        self._pump()
        result: R = await self._within(seconds, item.result, [item])
        return result

    async def many(self, values: Sequence[T], seconds: float | None) -> list[R]:
        """
        Give the results of items, in their order.

        They are given so many at a time as all threads can take, so that they keep nobody from their turn.

        Args:
            values: The items.
            seconds: How long each of these portions may take.

        Raises:
            ModelBusy: There was no room for a portion.
            Exception: Likewise what else `one` raises, for the first item that has failed; no other is computed then.
        """
        portion = self.batching.portion
        results: list[R] = []
        for start in range(0, len(values), portion):
            self.refuse_elsewhere()
            part = values[start : start + portion]
            self.refuse_full(len(part))
            costs = [self.batching.cost_of(value) for value in part]  # all of them first: it may raise
            items = [self._put(value, cost) for value, cost in zip(part, costs, strict=True)]
            self._pump()
            results += await self._within(seconds, asyncio.gather(*(item.result for item in items)), items)
        return results

    async def switch(self, function: Function[T, R]) -> None:
        """Let all batches from now on be computed by another function; wait until none is by the one before."""
        old, self._current = self._current, _Version(function)
        await old.idle.wait()

    async def close(self, seconds: float) -> None:
        """Refuse what comes from now on, and compute what waits; what is left after so many seconds fails."""
        self._is_closing = True
        self._pump()
        self._look()
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            for item in self._queue:
                if not item.result.done():
                    item.result.set_exception(self._closed())
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._turns.close()

    def _closed(self) -> ModelClosed:
        msg = f"`{self.name}` was asked for a result after its app had begun to close it"
        return ModelClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")

    async def _within(self, seconds: float | None, result: asyncio.Future[Any], items: list[_Item]) -> Any:  # noqa: ANN401
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await result
        except TimeoutError:
            if not limit.expired():  # the model's own
                raise
            self.counts.late += len(items)
            msg = f"`{self.name}` gave no result within {seconds:g} s: {self._waiting} items wait"
            raise ModelLate(msg, hint="let fewer wait, `max_queue=…`, or each for longer, `timeout=…`") from None
        finally:
            if len(items) > 1:
                for item in items:
                    item.result.cancel()

    def _put(self, value: T, cost: float) -> _Item:
        item = _Item(value, self._loop.create_future(), self._loop.time(), cost)
        item.result.add_done_callback(partial(self._left, item))
        self._queue.append(item)
        self._waiting += 1
        if self.is_full:
            self.on_full()
        return item

    def _left(self, item: _Item, _: asyncio.Future[Any]) -> None:
        """Note that an item has an end; one that still waits has it because its caller has left."""
        if item.waits:
            self._waits_no_longer(item)
            self.counts.dropped += 1
            item.value = None  # it may be large, and all threads busy for long
            if len(self._queue) > 2 * self._waiting + SPARE:
                self._queue = deque(item for item in self._queue if item.waits)

    def _waits_no_longer(self, item: _Item) -> None:
        was_full = self.is_full
        item.waits = False
        self._waiting -= 1
        if was_full:
            self.on_full()

    def _pump(self) -> None:
        """Begin as many batches as there are threads and items for."""
        while self._running < self.batching.workers and self._first() is not None:
            if self._waits_for_company():
                return
            self._begin(self._cut())

    def _first(self) -> _Item | None:
        while self._queue and self._queue[0].result.done():
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    def _waits_for_company(self) -> bool:
        due = self._queue[0].since + self.batching.max_wait
        if self._is_closing or self._waiting >= self.batching.max_batch or self._loop.time() >= due:
            return False
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._tick)
        return True

    def _tick(self) -> None:
        self._timer = None
        self._pump()

    def _cut(self) -> list[_Item]:
        batch: list[_Item] = []
        cost, now = 0.0, self._loop.time()
        most, max_cost = self.batching.max_batch, self.batching.max_cost
        while len(batch) < most and (item := self._first()) is not None:
            cost += item.cost
            if batch and max_cost is not None and cost > max_cost:
                break
            self._queue.popleft()
            self._waits_no_longer(item)
            self.counts.wait_seconds += now - item.since
            batch.append(item)
        return batch

    def _begin(self, batch: list[_Item]) -> None:
        version = self._current
        version.begins()
        self._running += 1
        self.counts.batches += 1
        self.counts.items += len(batch)
        self.counts.largest = max(self.counts.largest, len(batch))
        values = [item.value for item in batch]
        compute = partial(computed, self.name, version.function, values)
        self._turns.take(compute, partial(self._ended, batch, version, perf_counter()))

    def _ended(
        self,
        batch: list[_Item],
        version: _Version[T, R],
        began: float,
        results: list[Any] | None,
        error: BaseException | None,
    ) -> None:
        self._took(perf_counter() - began)
        self._running -= 1
        version.ends()
        if results is None:
            results = [ModelFailed(f"`{self.name}` raised {error!r}") for _ in batch]
        for item, result in zip(batch, results, strict=True):
            if not item.result.done():
                self._give(item, answer(self.name, result))
        self._pump()
        self._look()

    def _took(self, seconds: float) -> None:
        counts = self.counts
        counts.busy_seconds += seconds
        counts.batch_seconds = (1 - RECENT) * counts.batch_seconds + RECENT * seconds if counts.batches > 1 else seconds

    def _give(self, item: _Item, result: Any) -> None:  # noqa: ANN401 (any value)
        if isinstance(result, BaseException):
            self.counts.failed += 1
            item.result.set_exception(result)
        else:
            self.counts.served += 1
            item.result.set_result(result)

    def _look(self) -> None:
        if self._is_closing and not self._running and not self._waiting:
            self._over.set()


def busy(name: str, waiting: int, seconds: int) -> ModelBusy:
    """Say that as many items wait as may; clients are told different seconds, so that not all come back at once."""
    after = randint(seconds, 2 * seconds)  # noqa: S311 (not for secrets)
    msg = f"{waiting} items wait for `{name}` already"
    return ModelBusy(msg, hint="send less, or let more wait: `max_queue=…`", retry_after=after)
