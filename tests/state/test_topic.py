"""`Topic` at app scope: who gets what, in which order, and what is told to those who are slow."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tenure import MISSED, Missed, Topic, lifespan, running, scoped
from tenure.errors import AlreadyClosed, DeclarationError, NotSerialisable, NotStarted, PlanError, StateTooLarge
from tenure.state import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

readings = Topic("readings", scope="app", type=int)
Readings = Annotated[Topic[int], Depends(readings)]


class Watched(MemoryEngine):
    """An engine that tells how many are subscribed."""

    subscribed = 0

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncGenerator[AsyncIterator[bytes | Missed]]:
        """Subscribe, and count."""
        async with super().subscribe(topic) as messages:
            self.subscribed += 1
            try:
                yield messages
            finally:
                self.subscribed -= 1


@asynccontextmanager
async def served(topic: Topic[Any] = readings) -> AsyncGenerator[Topic[Any]]:
    """Give the topic that can be published to."""
    async with running(also=[topic]) as scope:
        yield await scope.get(topic)


async def settle() -> None:
    """Let every task go on until all of them wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


async def took(messages: AsyncIterator[Any], count: int) -> list[Any]:
    """Take some messages."""
    return [await anext(messages) for _ in range(count)]


def test_a_stream_of_one_request_has_what_another_publishes() -> None:
    """Two handlers meet by a topic that is injected in both."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def watch(readings: Readings) -> StreamingResponse:
        async def events() -> AsyncGenerator[str]:
            async with readings.subscribe() as messages:
                await publish(7, readings)
                yield f"{await anext(messages)}"

        return StreamingResponse(events())

    @app.post("/{value}")
    async def publish(value: int, readings: Readings) -> None:
        await readings.publish(value)

    with TestClient(app) as client:
        client.post("/6")
        assert client.get("/").text == "7"


async def test_all_who_are_subscribed_get_all_in_order() -> None:
    """Each subscriber gets each message from when it is subscribed on, until it leaves; others get none."""
    async with served() as topic, topic.subscribe() as early:
        await topic.publish(1)
        async with topic.subscribe() as late:
            await topic.publish(2)
            await topic.publish(3)
            assert await took(late, 2) == [2, 3]
        await topic.publish(4)
        assert await took(early, 4) == [1, 2, 3, 4]


async def test_topics_do_not_mix() -> None:
    """What is published to one topic does not reach the subscribers of another."""
    other = Topic("other", scope="app", type=int)
    async with running(also=[readings, other]) as scope:
        one, two = await scope.get(readings), await scope.get(other)
        async with one.subscribe() as ones, two.subscribe() as twos:
            await one.publish(1)
            await two.publish(2)
            assert (await anext(ones), await anext(twos)) == (1, 2)


async def test_the_short_form_subscribes_until_the_loop_is_left() -> None:
    """`async for` over `subscribe()` gets messages, and after a `break` nothing is kept for it."""
    got: list[Any] = []
    engine = Watched()
    async with asynccontextmanager(readings.factory)(engine) as topic:

        async def watch() -> None:
            async for message in topic.subscribe():
                got.append(message)
                if message == 2:
                    break

        watching = asyncio.create_task(watch())
        await settle()
        for number in range(5):
            await topic.publish(number)
        await watching
        await settle()
        assert got == [0, 1, 2]
        assert engine.subscribed == 0


async def test_one_subscription_may_be_iterated_over_twice_at_once() -> None:
    """Each loop gets all that is published, and ends without the other; entered twice at once, it is refused."""
    async with served() as topic:
        news = topic.subscribe()
        first, second = (aiter(news) for _ in range(2))
        asking = [asyncio.create_task(anext(each)) for each in (first, second)]
        await settle()
        await topic.publish(1)
        assert await asyncio.gather(*asking) == [1, 1]
        await first.aclose()
        await topic.publish(2)
        assert await anext(second) == 2
        await second.aclose()
        async with news as messages:
            with pytest.raises(DeclarationError, match="`readings` is entered twice at once"):
                await news.__aenter__()
            await topic.publish(3)
            assert await anext(messages) == 3


async def test_messages_are_copies_of_their_type() -> None:
    """Each subscriber gets an object of its own, of the topic's type."""

    class Note(BaseModel):
        words: list[str]

    notes = Topic("notes", scope="app", type=Note)
    sent = Note(words=["a"])
    async with served(notes) as topic, topic.subscribe() as one, topic.subscribe() as two:
        await topic.publish(sent)
        first, second = await anext(one), await anext(two)
        assert first == second == sent
        first.words.append("b")
        assert second == sent


async def test_one_who_is_slow_is_told_so() -> None:
    """Beyond a thousand messages the oldest are lost, and `MISSED` stands where they were; then all goes on."""
    async with served() as topic, topic.subscribe() as messages:
        for number in range(1500):
            await topic.publish(number)
        assert await took(messages, 1001) == [MISSED, *range(500, 1500)]
        await topic.publish(1500)
        assert await anext(messages) == 1500


async def test_one_who_is_slow_with_much_is_told_so() -> None:
    """Beyond 16 MiB it is the same, however few messages they are."""
    pages = Topic("pages", scope="app", type=bytes)
    async with served(pages) as topic, topic.subscribe() as messages:
        for number in range(20):
            await topic.publish(bytes([number]) * 2**20)
        got = await took(messages, 17)
        assert got[0] is MISSED
        assert [message[0] for message in got[1:]] == list(range(4, 20))


@given(steps=st.lists(st.sampled_from(["publish", "take", "flood"]), max_size=12))
@settings(max_examples=30)
async def test_nothing_is_missed_in_silence(steps: list[str]) -> None:
    """Whatever the pace, what is taken is in order, and between two that do not follow each other stands `MISSED`."""
    number, got = 0, list[int | Missed]([-1])
    async with served() as topic, topic.subscribe() as messages:
        for step in [*steps, "publish"]:
            for _ in range({"publish": 1, "take": 0, "flood": 700}[step]):
                await topic.publish(number)
                number += 1
            if step == "take" and got[-1] != number - 1:
                got.append(await anext(messages))
        while got[-1] != number - 1:
            got.append(await anext(messages))

    for before, message in pairwise(got):
        if message is not MISSED and before is not MISSED:
            assert message == before + 1
    taken = [message for message in got if message is not MISSED]
    assert taken == sorted(set(taken))


async def test_a_message_of_another_version_counts_as_missed(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read is not handed out, and not passed over in silence."""
    engine = MemoryEngine()
    async with asynccontextmanager(readings.factory)(engine) as topic, topic.subscribe() as messages:
        await engine.publish("topic:readings", b'"warm"')
        await topic.publish(20)
        assert await took(messages, 2) == [MISSED, 20]
    assert "a message was not read: what is kept for the topic `readings` cannot be read" in caplog.text


async def test_subscribers_end_with_the_app() -> None:
    """A loop over a topic ends by itself when the app closes, after what was already there."""
    got: list[Any] = []
    async with served() as topic:

        async def watch() -> None:
            got.extend([message async for message in topic.subscribe()])

        watching = asyncio.create_task(watch())
        await settle()
        await topic.publish(1)
    await watching
    assert got == [1]


async def test_a_resource_that_listens_closes_before_its_topic() -> None:
    """A resource may hold a subscription open for as long as the app runs."""
    got: list[Any] = []

    @scoped("app")
    async def listener(topic: Annotated[Topic[int], Depends(readings)]) -> AsyncGenerator[None]:
        async with topic.subscribe() as messages:
            yield
            got.append(await anext(messages))

    async with running(also=[listener, readings]) as scope:
        await (await scope.get(readings)).publish(5)
    assert got == [5]


@given(leaving=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10)), max_size=6))
async def test_cancellations_at_any_point_leave_nothing_behind(leaving: list[tuple[int, int]]) -> None:
    """Whoever leaves whenever, those who stay get every message, and nothing is kept for those who left."""
    engine = Watched()
    async with asynccontextmanager(readings.factory)(engine) as topic:
        before = asyncio.all_tasks()

        async def watch() -> list[Any]:
            got: list[Any] = []
            async for message in topic.subscribe():
                got.append(message)
                if message == 10:
                    return got
            return got

        watching = [asyncio.create_task(watch()) for _ in range(5)]
        await asyncio.sleep(0)
        for tick in range(11):
            for who, when in leaving:
                if when == tick:
                    watching[who].cancel()
            await topic.publish(tick)
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*watching, return_exceptions=True)
        left = {who for who, _ in leaving}
        assert all(outcome == list(range(11)) for who, outcome in enumerate(outcomes) if who not in left)
        await settle()
        assert asyncio.all_tasks() == before
        assert engine.subscribed == 0


async def test_what_cannot_be_sent_is_refused() -> None:
    """A message is held to the topic's type and size, and reaches nobody if it is neither."""
    small = Topic("small", scope="app", type=str, max_bytes=6)
    async with served(small) as topic, topic.subscribe() as messages:
        with pytest.raises(NotSerialisable, match="a value for the topic `small`"):
            await topic.publish(5)
        with pytest.raises(StateTooLarge):
            await topic.publish("12345")
        await topic.publish("1234")
        assert await anext(messages) == "1234"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a:b"},
        {"name": 5},
        {"scope": "request"},
        {"scope": "galaxy"},
        {"max_bytes": 0},
        {"max_bytes": 17 * 1024 * 1024},
    ],
)
def test_a_declaration_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Each word of the declaration is held to what it can be."""
    with pytest.raises(DeclarationError):
        Topic(**{"name": "readings", "scope": "app", **wrong})


async def test_a_scope_without_an_engine_is_refused_at_start() -> None:
    """A topic that nothing can carry is refused before anything starts; it does not become a narrower one."""
    with pytest.raises(PlanError, match="error\\[missing-engine\\]: `readings` has the scope"):
        async with served(Topic("readings", scope="cluster")):
            pytest.fail("it started")


async def test_used_where_it_does_not_live_it_says_so() -> None:
    """The declaration sends nothing, and neither does what has been closed."""
    async with served() as topic:
        pass
    for used, error in ((readings, NotStarted), (topic, AlreadyClosed)):
        with pytest.raises(error):
            await used.publish(1)
        with pytest.raises(error):
            async with used.subscribe():
                pytest.fail("it is subscribed")
        with pytest.raises(error):
            await anext(aiter(used.subscribe()))
