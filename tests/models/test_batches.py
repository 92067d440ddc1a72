"""A model gathers items of many callers into batches: nobody gets another's result, and nobody hangs."""

import asyncio
import gc
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from weakref import WeakSet

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as some

from tenure import lifespan, running
from tenure.errors import DeclarationError, OtherLoop
from tenure.models import Model, ModelBusy, ModelClosed, ModelFailed, ModelLate, model
from tests.waiting import until

PATIENCE = 20
CALLS = 1500


class Held:
    """A function that computes squares, and can be held up; it knows which batches it has computed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: list[int]) -> Sequence[int]:
        """Compute squares, as soon as that may be."""
        self.batches.append(items)
        self.entered.set()
        if not self.go.wait(PATIENCE):
            raise TimeoutError
        return [item * item for item in items]

    def hold(self) -> None:
        """Hold up what is computed from now on."""
        self.entered.clear()
        self.go.clear()

    async def until_held(self) -> None:
        """Wait until a batch is held up."""
        await until(self.entered.is_set)


@asynccontextmanager
async def served(function: Callable[[list[Any]], Any], **words: Any) -> AsyncIterator[Model[Any, Any]]:
    """Run a model that is a function."""
    resource = model(load=lambda: function, **words)
    async with running(also=[resource]) as scope:
        yield await scope.get(resource)


async def test_what_queues_while_the_model_is_busy_goes_together() -> None:
    """Nobody waits for company: the first goes alone, who comes meanwhile goes in as few batches as there can be."""
    held = Held()
    async with served(held, max_batch=4) as square:
        held.hold()
        first = asyncio.create_task(square(1))
        await held.until_held()
        others = [asyncio.create_task(square(number)) for number in range(2, 8)]
        await until(lambda: square.stats.waiting == 6)
        held.go.set()
        assert await asyncio.gather(first, *others) == [1, 4, 9, 16, 25, 36, 49]
    assert held.batches == [[1], [2, 3, 4, 5], [6, 7]]


async def test_items_may_wait_for_company() -> None:
    """With `max_wait`, items that come within it go together, and a full batch does not wait for its end."""
    held = Held()
    async with served(held, max_batch=3, max_wait=0.2) as square:
        assert await asyncio.gather(square(1), square(2)) == [1, 4]
        assert await asyncio.gather(*(square(number) for number in range(3))) == [0, 1, 4]
    assert held.batches == [[1, 2], [0, 1, 2]]


async def test_a_batch_costs_no_more_than_allowed() -> None:
    """Items go together as long as their costs add up to no more; one that costs more goes alone."""
    held = Held()
    async with served(held, max_batch=8, cost=int, max_cost=10) as square:
        held.hold()
        first = asyncio.create_task(square(1))
        await held.until_held()
        others = [asyncio.create_task(square(number)) for number in (4, 6, 5, 20, 3)]
        await until(lambda: square.stats.waiting == 5)
        held.go.set()
        await asyncio.gather(first, *others)
        with pytest.raises(ValueError, match="invalid literal"):
            await square("no number")
        assert await square(2) == 4
    assert held.batches == [[1], [4, 6], [5], [20], [3], [2]]


@pytest.mark.parametrize("cost", [None, "3", float("nan"), -1])
async def test_a_cost_that_is_none_refuses_its_item_alone(cost: object) -> None:
    """However often: nobody else waits behind it, and the close is as always."""
    async with served(Held(), max_queue=2, cost=lambda item: cost if item == 0 else 1, max_cost=10) as square:
        for _ in range(3):
            with pytest.raises(ModelFailed, match=r"`cost` gave .* for an item"):
                await square(0)
        assert await square(3) == 9
        with pytest.raises(ModelFailed):
            await square.many([4, 0])
        assert await square.many([4, 5]) == [16, 25]


async def test_what_nobody_waits_for_is_let_go_of() -> None:
    """While a batch takes long, of 300 items whose callers have left none is kept."""

    class Large:
        """An item that one can tell whether it is kept."""

    held = Held()
    async with served(held, max_queue=4) as square:
        held.hold()
        first = asyncio.create_task(square(1))
        await held.until_held()
        kept = WeakSet[Large]()
        for _ in range(300):
            item = Large()
            kept.add(item)
            leaving = asyncio.create_task(square(item))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
        del item, leaving
        gc.collect()
        assert len(kept) == 0
        held.go.set()
        assert await first == 1


async def test_results_never_shift_under_random_cancels() -> None:
    """Of 1,500 calls, 40 % cancelled at random: none hangs, and each result is that of its own item."""
    chosen = random.Random(11)  # noqa: S311 (not for secrets)
    outcomes = Counter[str]()
    async with served(Held(), max_batch=7, workers=2, max_queue=CALLS) as square:

        async def maybe(number: int) -> None:
            task = asyncio.create_task(square(number))
            if chosen.random() < 0.4:
                for _ in range(chosen.randrange(30)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            if task.cancelled():
                outcomes["cancelled"] += 1
            else:
                assert task.result() == number * number
                outcomes["answered"] += 1

        await asyncio.gather(*(maybe(number) for number in range(CALLS)))
        stats = square.stats
    assert outcomes["answered"] + outcomes["cancelled"] == CALLS
    assert outcomes["cancelled"] > 100
    assert (stats.waiting, stats.running) == (0, 0)
    assert stats.served >= outcomes["answered"]
    assert stats.items + stats.dropped <= CALLS  # some left before they were let in


@given(
    some.lists(some.tuples(some.integers(0, 9), some.booleans(), some.booleans()), max_size=30),
    some.integers(1, 5),
    some.integers(1, 2),
)
def test_each_caller_gets_its_own(calls: list[tuple[int, bool, bool]], max_batch: int, workers: int) -> None:
    """Whoever is cancelled, and whatever fails: each other call has the result, or the error, of its own item."""

    def function(items: list[tuple[int, int, bool]]) -> list[int]:
        if any(fails for _, _, fails in items):
            raise KeyError(min(number for number, _, fails in items if fails))
        return [number for number, _, _ in items]

    async def main() -> None:
        async with served(function, max_batch=max_batch, workers=workers) as same:
            tasks: list[asyncio.Task[int]] = []
            for number, (steps, leaves, fails) in enumerate(calls):
                tasks.append(asyncio.create_task(same((number, steps, fails))))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if leaves:
                    tasks[-1].cancel()
            results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
        for number, (result, (_, leaves, fails)) in enumerate(zip(results, calls, strict=True)):
            expected = repr(KeyError(number)) if fails else repr(number)
            assert repr(result) == expected or (leaves and isinstance(result, asyncio.CancelledError))

    asyncio.run(main())


async def test_a_bad_item_fails_alone() -> None:
    """When a batch raises, it is halved until only the item at fault is left."""
    held = Held()

    def function(items: list[int]) -> Sequence[int]:
        held(items)
        if 5 in items:
            msg = "five"
            raise ValueError(msg)
        return [item * item for item in items]

    async with served(function, max_batch=8) as square:
        held.hold()
        first = asyncio.create_task(square(0))
        await held.until_held()
        others = [asyncio.create_task(square(number)) for number in range(1, 9)]
        await until(lambda: square.stats.waiting == 8)
        held.go.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        stats = square.stats
    assert results[:5] + results[6:] == [0, 1, 4, 9, 16, 36, 49, 64]
    assert isinstance(results[5], ValueError)
    assert (stats.served, stats.failed) == (8, 1)
    assert held.batches[1:] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [5, 6],
        [5],
        [6],
        [7, 8],
    ]


async def test_an_exception_as_a_result_fails_its_item() -> None:
    """A model may say for each item what is wrong with it, and is called once."""
    async with served(lambda items: [LookupError(item) if item == 2 else item for item in items], max_batch=4) as same:
        results = await asyncio.gather(*(same(number) for number in range(4)), return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [0, 1, 3]
    assert isinstance(results[2], LookupError)


async def test_a_short_result_list_fails_the_batch() -> None:
    """With fewer or more results than items, nobody gets any: whose they are is not known."""
    async with served(lambda items: items[1:]) as short, served(lambda items: [*items, 0]) as long:
        for wrong, count in ((short, 0), (long, 2)):
            with pytest.raises(ModelFailed, match=f"got 1 items and gave {count} results"):
                await wrong(1)


@pytest.mark.parametrize("error", [StopIteration("end"), StopAsyncIteration("end"), SystemExit(3), KeyboardInterrupt()])
async def test_stop_iteration_and_the_like_reach_the_caller(error: BaseException) -> None:
    """What no future can hold, or would end the server, is told as a failure of the model; raised or as a result."""

    def raising(items: list[int]) -> list[int]:
        raise error

    async with served(raising, name="raising") as raises, served(lambda _: [error], name="giving") as gives:
        for wrong in (raises, gives):
            with pytest.raises((ModelFailed, StopAsyncIteration)):
                await asyncio.wait_for(wrong(1), PATIENCE)


async def test_a_timeout_while_queued() -> None:
    """An item that waits for too long is refused, and never computed."""
    held = Held()
    async with served(held) as square:
        held.hold()
        first = asyncio.create_task(square(1))
        await held.until_held()
        with pytest.raises(ModelLate, match=r"within 0\.05 s") as raised:
            await square.within(0.05)(2)
        held.go.set()
        assert await first == 1
        assert await square(3) == 9
        stats = square.stats
    assert raised.value.status_code == 504
    assert held.batches == [[1], [3]]
    assert (stats.dropped, stats.late) == (1, 1)


async def test_a_timeout_while_running() -> None:
    """An item that is computed for too long is refused; the batch runs to its end, and the next is right."""
    held = Held()
    async with served(held, timeout=0.05) as square:
        held.hold()
        with pytest.raises(ModelLate):
            await square(1)
        held.go.set()
        assert await square.within(PATIENCE)(2) == 4
        assert (square.stats.dropped, square.stats.late) == (0, 1)


async def test_a_timeout_of_the_models_own_is_not_ours() -> None:
    """What the model raises arrives as it is."""

    def function(items: list[int]) -> list[int]:
        msg = "mine"
        raise TimeoutError(msg)

    async with served(function) as slow:
        with pytest.raises(TimeoutError, match="mine"):
            await slow(1)


async def test_a_full_queue_refuses_with_a_time_to_come_back_at() -> None:
    """What waits is bounded; who is refused is told when all of it will have been computed, as batches go."""
    held = Held()
    async with served(held, max_queue=3) as square:
        held.hold()
        tasks = [asyncio.create_task(square(0))]
        await held.until_held()
        tasks += [asyncio.create_task(square(number)) for number in range(3)]
        await until(lambda: square.stats.waiting == 3)
        with pytest.raises(ModelBusy, match="3 items wait for `model` already") as raised:
            await square(4)
        with pytest.raises(ModelBusy):
            await square.many([4, 5])
        assert square.stats.refused == 2
        assert raised.value.status_code == 503
        assert 1 <= int((raised.value.headers or {})["Retry-After"]) <= 2
        held.go.set()
        await asyncio.gather(*tasks)
        square.served.batcher.counts.batch_seconds = 5.0  # type: ignore[attr-defined] # as if batches took so long
        held.hold()
        tasks = [asyncio.create_task(square(0))]
        await held.until_held()
        tasks += [asyncio.create_task(square(number)) for number in range(3)]
        await until(lambda: square.stats.waiting == 3)
        with pytest.raises(ModelBusy) as raised:
            square.refuse_if_full()
        assert 20 <= int((raised.value.headers or {})["Retry-After"]) <= 40  # four batches of 5 s, and some more
        held.go.set()
        await asyncio.gather(*tasks)


async def test_many_items_take_turns_with_others() -> None:
    """Many items of one caller, more than may wait, come in portions: another's item is computed between them."""
    held = Held()
    async with served(held, max_batch=4, max_queue=8) as square:
        held.hold()
        many = asyncio.create_task(square.many(range(10)))
        await held.until_held()
        other = asyncio.create_task(square(100))
        await until(lambda: square.stats.waiting == 1)
        held.go.set()
        assert await many == [number * number for number in range(10)]
        assert await other == 10_000
        assert await square.many([]) == []
    assert held.batches == [[0, 1, 2, 3], [100], [4, 5, 6, 7], [8, 9]]


async def test_many_items_end_with_the_first_error() -> None:
    """The error of a bad item is raised, and what still waits of the others is not computed."""
    held = Held()
    async with served(held, max_batch=1, workers=2) as square:
        with pytest.raises(TypeError):
            await square.many([1, None, 3, 4])
        assert await square(5) == 25
    assert [3] not in held.batches


async def test_what_still_waits_of_many_items_is_not_computed() -> None:
    """After the error of the first, at most the batch that has begun meanwhile is computed."""
    batches, told = list[list[int]](), threading.Event()

    def function(items: list[int]) -> list[int]:
        batches.append(items)
        if items == [0]:
            raise LookupError
        told.wait(PATIENCE)
        return items

    async with served(function, max_batch=4, cost=lambda _: 1, max_cost=1) as same:
        with pytest.raises(LookupError):
            await same.many([0, 1, 2, 3])
        told.set()
        assert await same(4) == 4
    assert batches in ([[0], [4]], [[0], [1], [4]])


async def test_a_close_waits_for_no_company() -> None:
    """What waits for others when the app ends is computed at once."""
    async with served(Held(), max_batch=2, max_wait=PATIENCE) as square:
        task = asyncio.create_task(square(3))
        await until(lambda: square.stats.waiting == 1)
    assert await task == 9


async def test_close_drains() -> None:
    """What waits when the app ends is computed; what comes after that is refused with 503."""
    held = Held()
    async with served(held, max_batch=2) as square:
        held.hold()
        tasks = [asyncio.create_task(square(0))]
        await held.until_held()
        tasks += [asyncio.create_task(square(number)) for number in range(1, 6)]
        await until(lambda: square.stats.waiting == 5)
        threading.Timer(0.05, held.go.set).start()
    assert [task.result() for task in tasks] == [0, 1, 4, 9, 16, 25]
    with pytest.raises(ModelClosed) as raised:
        await square(1)
    assert raised.value.status_code == 503


async def test_many_items_end_with_the_app() -> None:
    """Of many items, the portion that is computed when the app ends has its results, and no other begins."""
    held = Held()
    async with served(held) as square:
        held.hold()
        task = asyncio.create_task(square.many([1, 2, 3]))
        await held.until_held()
        threading.Timer(0.05, held.go.set).start()
    with pytest.raises(ModelClosed):
        await asyncio.wait_for(task, PATIENCE)
    assert held.batches == [[1]]


async def test_a_close_has_an_end() -> None:
    """What is not computed when the time to close is over fails, and nobody hangs."""
    held = Held()
    async with served(held, close_timeout=0.3) as square:
        held.hold()
        running = asyncio.create_task(square(1))
        await held.until_held()
        waiting = asyncio.create_task(square(2))
        await until(lambda: square.stats.waiting == 1)
    with pytest.raises(ModelClosed):
        await asyncio.wait_for(waiting, PATIENCE)
    held.go.set()
    assert await asyncio.wait_for(running, PATIENCE) == 1


async def test_a_model_belongs_to_its_event_loop() -> None:
    """A call in another loop is refused, and says what to do."""
    async with served(Held()) as square:
        with pytest.raises(OtherLoop):
            await asyncio.to_thread(lambda: asyncio.run(square(1)))  # type: ignore[arg-type] # it is a coroutine


async def test_nothing_of_what_was_asked_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Neither stats, log nor refusals hold an item."""
    caplog.set_level("DEBUG")
    held = Held()
    async with served(held, max_queue=1, warmup=[7]) as square:
        held.hold()
        tasks = [asyncio.create_task(square.within(0.05)(7_777_777))]
        await held.until_held()
        tasks.append(asyncio.create_task(square.within(0.05)(7_777_777)))
        await until(lambda: square.stats.waiting == 1)
        refusals = await asyncio.gather(*tasks, square(7_777_777), return_exceptions=True)
        held.go.set()
        told = f"{square.stats} {caplog.text} {[str(each) for each in refusals]}"
    assert len(refusals) == 3
    assert "7777777" not in told


def test_room_refuses_before_all_else() -> None:
    """While the queue is full, neither is the body validated nor another dependency called."""
    held, called = Held(), list[str]()
    square = model(load=lambda: held, max_queue=1, name="square")
    app = FastAPI(lifespan=lifespan(also=[square]))

    async def other() -> None:
        called.append("other")

    @app.post("/square", dependencies=[Depends(square.room), Depends(other)])
    async def of(number: int, square: Annotated[Model[int, int], Depends(square)]) -> int:
        return await square(number)

    @app.get("/fill")
    async def fill(square: Annotated[Model[int, int], Depends(square)]) -> list[int]:
        held.hold()
        first = asyncio.create_task(square(1))
        await held.until_held()
        second = asyncio.create_task(square(2))
        await until(lambda: square.stats.waiting == 1)
        tasks.extend([first, second])
        return []

    @app.get("/emptied")
    async def emptied() -> list[int]:
        held.go.set()
        return await asyncio.gather(*tasks)

    tasks: list[asyncio.Task[int]] = []
    with TestClient(app) as client:
        client.get("/fill")
        answer = client.post("/square?number=nonsense")
        assert (answer.status_code, called) == (503, [])
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert client.get("/emptied").json() == [1, 4]
        assert client.post("/square?number=nonsense").status_code == 422
        assert client.post("/square?number=3").json() == 9
        assert called == ["other", "other"]


@pytest.mark.parametrize(
    "words",
    [
        {"workers": 0},
        {"max_batch": 0},
        {"max_queue": 0},
        {"max_wait": -1},
        {"timeout": 0},
        {"cost": len},
        {"max_cost": 5},
        {"cost": len, "max_cost": 0},
        {"native_threads": 0},
        {"scope": "request"},
        {"scope": "function"},
        {"file": "model.onnx"},
        {"file": {}},
    ],
)
def test_a_model_that_cannot_be_is_refused_when_declared(words: dict[str, Any]) -> None:
    """Numbers that bound nothing, scopes that end before it was loaded, and files that are none are told at once."""
    with pytest.raises(DeclarationError) as raised:
        model(load=Held, **words)
    if "scope" in words:
        assert 'once for each process, `scope="app"`' in raised.value.hint


def test_an_async_load_is_refused() -> None:
    """Loading blocks, so it is done in a thread."""

    async def load() -> Callable[[list[int]], list[int]]:
        return list

    with pytest.raises(DeclarationError, match="`load` of the model `model` is async"):
        model(load=load)  # type: ignore[call-overload]
