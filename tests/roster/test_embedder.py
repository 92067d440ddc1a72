"""The model gives the vectors that its makers published, to many callers, and never holds up the event loop."""

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from roster.embedder import MAX_CHARACTERS, MAX_TEXTS, VERSION, Embedder
from tenure.errors import AlreadyClosed

pytestmark = pytest.mark.anyio

LONG = "a person who is happy to read a very long text " * 100


@pytest.fixture(scope="module")
async def embedder(anyio_backend: str) -> AsyncIterator[Embedder]:
    """Open the model with one thread."""
    async with Embedder.open() as embedder:
        yield embedder


def similarity(one: list[float], other: list[float]) -> float:
    """Give the cosine of two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_gives_the_published_similarities(embedder: Embedder) -> None:
    """The example of the model's makers comes out as they published it, but for what eight bits lose."""
    source, dog, happy, sunny = await embedder(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    found = [similarity(source, other) for other in (dog, happy, sunny)]
    assert found == pytest.approx([0.695, 0.943, 0.257], abs=0.01)


async def test_vectors_have_384_floats_and_length_one(embedder: Embedder) -> None:
    """Any text has a vector of the same form, an empty one too."""
    vectors = await embedder(["", "naïve café 日本語 🎉", LONG])
    assert [len(vector) for vector in vectors] == [384, 384, 384]
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1, 1, 1])


async def test_a_text_alone_is_as_in_company(embedder: Embedder) -> None:
    """An answer does not depend on what else was asked, in the call or at the time."""
    texts = ["a nurse who paints", "", LONG, "Lisbon"]
    alone = [(await embedder([text]))[0] for text in texts]
    together, others = await asyncio.gather(embedder(texts), embedder(texts[::-1]))
    assert together == alone
    assert others == alone[::-1]


async def test_no_texts_have_no_vectors(embedder: Embedder) -> None:
    """Nothing asked is nothing answered."""
    assert await embedder([]) == []


async def test_what_does_not_fit_is_left_out(embedder: Embedder) -> None:
    """Only the beginning of a long text counts."""
    long, longer = await embedder([LONG, LONG + "and something else"])
    assert longer == long
    spaces, beyond = await embedder([" " * MAX_CHARACTERS, " " * MAX_CHARACTERS + "not read"])
    assert beyond == spaces


async def test_too_many_texts_are_refused(embedder: Embedder) -> None:
    """One call cannot keep the model for ever."""
    with pytest.raises(ValueError, match=f"{MAX_TEXTS + 1} texts are too many"):
        await embedder(["x"] * (MAX_TEXTS + 1))


async def test_the_event_loop_runs_on(embedder: Embedder) -> None:
    """While the model computes, other tasks of the loop run."""
    call = asyncio.create_task(embedder([LONG]))
    turn = asyncio.Event()

    async def other() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        turn.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(other())
        await turn.wait()
        assert not call.done()
    await call


async def test_a_caller_who_leaves_makes_room(embedder: Embedder) -> None:
    """Of a call that is cancelled, the texts that have not begun are not computed, and the next call is answered."""
    call = asyncio.create_task(embedder([LONG] * MAX_TEXTS))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert len(await embedder(["next"])) == 1


async def test_more_workers_give_the_same(embedder: Embedder) -> None:
    """Threads share one network."""
    texts = ["one", "two words", "and three more"]
    expected = await embedder(texts)
    async with Embedder.open(workers=2) as two:
        found = await asyncio.gather(*(two(texts) for _ in range(4)))
    assert found == [expected] * 4


async def test_it_says_which_model_it_is(embedder: Embedder) -> None:
    """The version has the name, and the first digits of the checksum that was compared."""
    assert embedder.version == VERSION == "all-MiniLM-L6-v2-int8@8199be6f699a"


async def test_it_is_refused_once_closed() -> None:
    """After its end it says so; a call that had begun ends clearly too, and its thread is gone."""
    async with Embedder.open() as embedder:
        begun = asyncio.create_task(embedder([LONG] * 2))
        await asyncio.sleep(0)
    with pytest.raises(AlreadyClosed, match="the embedder has been closed"):
        await begun
    with pytest.raises(AlreadyClosed, match="the embedder has been closed"):
        await embedder(["late"])
