"""A class at host scope is one object in a process of its own; methods are called by way of a typed handle."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from tenure import override, running
from tenure.errors import AlreadyClosed, DeclarationError, NotSerialisable, OtherLoop, OverrideError, StateTooLarge
from tenure.remote import CallTimeout, OwnerBusy, RemoteFailure, local, wire
from tenure.remote.values import read, written
from tests.remote import promises, things
from tests.remote.things import Booking, Point, Thing, Unpaid, app, thing
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tenure.remote import Remote

DEADLINE = 20


def lines(path: Path) -> list[str]:
    """Read what was noted in a file."""
    return path.read_text().splitlines() if path.exists() else []


async def test_an_object_lives_in_a_process_of_its_own(handle: Remote[Thing]) -> None:
    """Its methods run in another process than the app, always the same."""
    process = await handle(Thing.process)

    assert process != os.getpid()
    assert await handle(Thing.process) == process


async def test_what_an_object_takes_lives_with_it(place: Path) -> None:
    """An app-scoped resource that the class takes is opened in the object's process alone, and closed there."""
    async with running(app) as scope:
        handle = await scope.get(thing)
        process = await handle(Thing.process)
        assert await handle(Thing.origin) == (["opened"], 1)
        assert lines(place / "opened") == [str(process)]
    async with asyncio.timeout(DEADLINE):
        while not lines(place / "closed"):
            await asyncio.sleep(0.005)
    assert lines(place / "closed") == [str(process)]


async def test_arguments_and_answers_are_of_the_types_that_the_method_says(handle: Remote[Thing]) -> None:
    """Models and dataclasses arrive as such on both sides."""
    booking = Booking(id=uuid4(), at=datetime.now(UTC), points=(Point(1, 2.5),))

    answer = await handle(Thing.later, booking, point=Point(3, 4))

    assert isinstance(answer, Booking)
    assert answer.id == booking.id
    assert answer.points == (Point(1, 2.5), Point(3, 4.0))
    assert answer.at > booking.at


async def test_an_array_arrives_as_memory_that_may_be_changed(handle: Remote[Thing]) -> None:
    """What the object does to its copy is not seen in the caller's."""
    array = np.arange(3 * 50_000, dtype="f4").reshape(3, -1)

    doubled = await handle(Thing.doubled, array)

    assert doubled.dtype == array.dtype
    assert (doubled == array * 2).all()
    assert array[2, -1] == 149_999
    doubled += 1


async def test_a_request_calls_the_object(place: Path) -> None:
    """A handler takes the handle as any dependency, and an HTTP error of the object's is the answer."""
    del place
    with TestClient(app) as client:
        assert client.get("/greet?name=ada").json() == "hello ada!"
        answer = client.get("/not-found")
    assert (answer.status_code, answer.json(), answer.headers["X-Thing"]) == (404, {"detail": "no such thing"}, "none")


async def test_an_error_arrives_as_it_is_with_its_traceback(handle: Remote[Thing]) -> None:
    """Its class, arguments and attributes are those that were raised, and a note shows where."""
    with pytest.raises(Unpaid, match="3 EUR") as raised:
        await handle(Thing.unpaid)
    assert raised.value.currency == "EUR"
    assert "things.py" in raised.value.__notes__[0]
    assert "raise Unpaid(3" in raised.value.__notes__[0]


async def test_an_error_of_an_unknown_class_is_told_in_words(handle: Remote[Thing]) -> None:
    """What no other process can know is a `RemoteFailure` that names it."""
    with pytest.raises(RemoteFailure, match="Strange: very"):
        await handle(Thing.strange)


async def test_an_argument_of_another_type_is_told_in_words(handle: Remote[Thing]) -> None:
    """Pydantic's error, which nobody else can make, is a `RemoteFailure`; the connection goes on."""
    with pytest.raises(RemoteFailure, match="ValidationError: 1 validation error for int"):
        _ = [point async for point in handle(Thing.points, "many")]  # type: ignore[arg-type] # the point
    assert await handle(Thing.greet, "still") == "hello still"


async def test_what_is_no_data_is_refused(handle: Remote[Thing]) -> None:
    """Neither side ever pickles: an argument is refused at once, an answer in the object's process."""
    with pytest.raises(NotSerialisable, match="lock"):
        await handle(Thing.no_data)
    with pytest.raises(NotSerialisable, match="array of object"):
        await handle(Thing.echo, np.array([{}, {}]))
    assert await handle(Thing.greet, "still") == "hello still"


async def test_what_is_too_large_is_refused(handle: Remote[Thing], monkeypatch: pytest.MonkeyPatch) -> None:
    """A message above the bound is not sent, and the connection goes on."""
    monkeypatch.setattr(wire, "LARGEST", 100_000)
    with pytest.raises(StateTooLarge):
        await handle(Thing.total, np.zeros(20_000))
    assert await handle(Thing.total, np.ones(100)) == 100


async def test_streams_are_taken_item_by_item(handle: Remote[Thing]) -> None:
    """An async generator and a sync one both come as an async iterator, longer than what is sent ahead."""
    assert [word async for word in handle(Thing.words, 100)][-1] == "word 99"
    assert [point async for point in handle(Thing.points, 40)][-1] == Point(39, 19.5)


async def test_a_stream_that_is_left_ends_where_it_runs(handle: Remote[Thing], place: Path) -> None:
    """The generator is closed, and has not run far ahead of the caller."""
    stream = handle(Thing.words, 10_000)
    async for word in stream:
        if word == "word 3":
            break
    await stream.aclose()  # type: ignore[attr-defined] # it is a generator
    await until((place / "words ended").exists)
    assert int((place / "words").read_text()) < 100


async def test_an_error_in_a_stream_follows_its_items(handle: Remote[Thing]) -> None:
    """What was given before the error arrives before it."""
    seen: list[int] = []
    with pytest.raises(ValueError, match="two is too many"):  # noqa: PT012 (the error is to come in the iteration)
        async for number in handle(Thing.broken):
            seen.append(number)  # noqa: PERF401 (what came before the error counts)
    assert seen == [1]


async def test_each_item_of_a_stream_has_a_deadline(handle: Remote[Thing], place: Path) -> None:
    """A stream that says nothing more is given up in time, and ends where it runs."""
    await promises.a_stream_that_says_nothing_more_is_given_up(handle, place)


async def test_sync_methods_run_in_as_many_threads_as_said(handle: Remote[Thing], place: Path) -> None:
    """With two threads, two of five calls run at once, and the event loop goes on beside them."""
    held = [asyncio.create_task(handle(Thing.hold, "go")) for _ in range(5)]
    async with asyncio.timeout(DEADLINE):
        while len(lines(place / "began")) < 2:
            await asyncio.sleep(0.005)
    booking = Booking(id=uuid4(), at=datetime.now(UTC), points=())
    assert (await handle(Thing.later, booking, Point(0, 0))).points == (Point(0, 0),)

    (place / "go").touch()

    assert max(await asyncio.gather(*held)) == 2


async def test_a_call_that_has_not_begun_is_called_off(handle: Remote[Thing], place: Path) -> None:
    """Of calls that wait for a thread, the one whose caller is cancelled never runs."""
    held = [asyncio.create_task(handle(Thing.hold, name)) for name in ("a", "b", "c")]
    async with asyncio.timeout(DEADLINE):
        while len(lines(place / "began")) < 2:
            await asyncio.sleep(0.005)
    held[2].cancel()
    await asyncio.wait([held[2]])
    (place / "heard").touch()
    await handle(Thing.patiently, "heard")  # what was sent before this call has been read
    for name in "abc":
        (place / name).touch()
    await asyncio.gather(*held[:2])
    await handle(Thing.count)
    assert sorted(lines(place / "began")) == ["a", "b"]


async def test_an_async_call_whose_caller_leaves_is_cancelled(handle: Remote[Thing], place: Path) -> None:
    """The method is cancelled where it waits."""
    call = asyncio.create_task(handle(Thing.wait, "x"))
    await until((place / "x began").exists)
    call.cancel()
    await until((place / "x cancelled").exists)


async def test_a_call_has_a_deadline(handle: Remote[Thing], place: Path) -> None:
    """A call that is not answered in time raises, is called off, and FastAPI would answer it 504."""
    with pytest.raises(CallTimeout) as raised:
        await handle.within(0.3)(Thing.wait, "x")
    assert raised.value.status_code == 504
    await until((place / "x cancelled").exists)


async def test_a_call_that_cannot_be_sent_has_its_deadline(handle: Remote[Thing]) -> None:
    """While the object's process does not read, a call behind a large one is late too, and so is a stream."""
    process, brief = await handle(Thing.process), handle.within(0.2)
    os.kill(process, signal.SIGSTOP)
    try:
        async with asyncio.timeout(DEADLINE / 2):
            with pytest.raises(CallTimeout):
                await brief(Thing.total, np.zeros(1_000_000))
            with pytest.raises(CallTimeout):
                await brief(Thing.greet, "ada")
            with pytest.raises(CallTimeout):
                await anext(aiter(brief(Thing.words, 1)))
    finally:
        os.kill(process, signal.SIGCONT)
    assert await handle(Thing.greet, "ada") == "hello ada"


async def test_more_calls_than_may_wait_are_refused(handle: Remote[Thing], place: Path) -> None:
    """Of 60 calls 40 are taken and 20 refused at once, as FastAPI answers 503 with Retry-After."""
    calls = [asyncio.create_task(handle(Thing.hold, "go")) for _ in range(60)]
    async with asyncio.timeout(DEADLINE):
        while sum(call.done() for call in calls) < 20:
            await asyncio.sleep(0.005)
    (place / "go").touch()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, OwnerBusy)]
    assert len(refused) == 20
    assert refused[0].status_code == 503
    assert refused[0].headers["Retry-After"] == "1"


async def test_only_public_methods_of_the_class_can_be_called(handle: Remote[Thing]) -> None:
    """Anything else is refused before it is sent."""
    for method in (Thing._secret, Thing.__init__, len, Point.__init__):  # noqa: SLF001 (the point)
        with pytest.raises(DeclarationError, match="public method of Thing"):
            await handle(method)  # type: ignore[arg-type]


async def test_a_handle_belongs_to_its_app_and_its_loop(place: Path) -> None:
    """After the close, and in another event loop, a call is refused in words."""
    del place
    async with running(app) as scope:
        handle = await scope.get(thing)
        with pytest.raises(OtherLoop):
            await asyncio.to_thread(lambda: asyncio.run(handle(Thing.process)))
    with pytest.raises(AlreadyClosed):
        await handle(Thing.process)


class Double:
    """What stands in for the object in a test."""

    def greet(self, name: str, *, loud: bool = False) -> str:
        """Greet otherwise."""
        return f"{'BYE' if loud else 'bye'} {name}"


async def test_an_override_is_an_object_of_this_process(place: Path) -> None:
    """Nothing is started, and the double's methods are called by those of the class."""
    with override(app, {thing: lambda: local(Double())}), TestClient(app) as client:
        assert client.get("/greet?name=ada").json() == "BYE ada"
    assert not (place / "opened").exists()


async def test_a_double_may_be_given_a_deadline() -> None:
    """As the handle that it stands for, it is called by the class whose methods it has."""
    assert await local(Double()).within(1)(Thing.greet, "ada") == "bye ada"  # type: ignore[arg-type] # a double


async def test_an_override_that_would_not_reach_the_object_is_refused(place: Path) -> None:
    """What the object takes is made in its process, where a test's overrides are not known."""
    del place
    with override(app, {things.opened: lambda: ["fake"]}), pytest.raises(OverrideError, match="`Thing` takes it"):
        async with running(app):
            pass


@given(
    some.recursive(
        some.none()
        | some.booleans()
        | some.integers(-(2**63), 2**64 - 1)
        | some.floats(allow_nan=False)
        | some.text()
        | some.binary(),
        lambda inner: some.lists(inner) | some.tuples(inner, inner) | some.dictionaries(some.text(), inner),
        max_leaves=20,
    )
)
def test_data_is_the_same_on_the_other_side(value: Any) -> None:
    """What is written is read as it was, tuples as tuples."""
    content, buffers = written(value)
    assert read(content, buffers) == value


@given(
    arrays.arrays(
        arrays.scalar_dtypes(),
        arrays.array_shapes(min_dims=0, min_side=0),
    )
)
def test_an_array_is_the_same_on_the_other_side(array: Any) -> None:
    """Its type, shape and memory are."""
    content, buffers = written([array])
    [answer] = read(content, [memoryview(bytearray(buffer)) for buffer in buffers])
    assert answer.dtype == array.dtype
    assert answer.shape == array.shape
    assert answer.tobytes() == array.tobytes()
