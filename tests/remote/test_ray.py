"""A class at cluster scope is one object in a Ray cluster; all machines have the handle that `host` scope gives."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pytest

from tenure import running, scoped
from tenure.errors import AlreadyClosed, DeclarationError, MissingExtra, NotSerialisable, StartFailed
from tenure.remote import CallTimeout, NoCluster, OwnerBusy, OwnerDied, RemoteFailure, hosted
from tenure.remote import ray as over_ray
from tests.remote import promises, ray_cluster
from tests.remote.far import DEPLOYMENT, app, far
from tests.remote.test_calls import lines
from tests.remote.things import Booking, Point, Thing, Unpaid, thing
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tenure.remote import Remote

DEADLINE = 20
pytestmark = pytest.mark.timeout(150)  # on a busy machine a cluster takes half a minute to start


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """Run Ray, and give the folder in which its actors leave notes."""
    with ray_cluster.cluster() as folder:
        yield folder


@pytest.fixture
def place(cluster: Path) -> Path:
    """Give the folder, without the notes of other tests."""
    return ray_cluster.without_notes(cluster, "opened")


@pytest.fixture
async def handle(place: Path) -> AsyncIterator[Remote[Thing]]:
    """Run the app, and give its handle on the object, which outlives it."""
    async with running(app) as scope:
        yield await scope.get(far)


async def test_an_object_lives_in_the_cluster_and_outlives_the_app(place: Path) -> None:
    """It is another process than the app's, which the app finds again when it starts anew."""
    found = []
    for _ in range(2):
        async with running(app) as scope:
            handle = await scope.get(far)
            found.append(await handle(Thing.process))
    assert found[0] == found[1] != os.getpid()


async def test_what_an_object_takes_lives_with_it(handle: Remote[Thing], place: Path) -> None:
    """A resource that its constructor takes was opened in its process, once."""
    origin = await handle(Thing.origin)
    assert origin == (["opened"], 1)
    assert lines(place / "opened").count(str(await handle(Thing.process))) == 1


async def test_values_arrive_as_they_are(handle: Remote[Thing]) -> None:
    """Models, dataclasses and arrays are the same on both sides, and an array may be changed."""
    booking = Booking(id=uuid4(), at=datetime.now(UTC), points=(Point(1, 2.5),))
    assert (await handle(Thing.later, booking, point=Point(3, 4))).points == (Point(1, 2.5), Point(3, 4.0))
    array = np.arange(300_000, dtype="f4").reshape(3, -1)
    doubled = await handle(Thing.doubled, array)
    assert (doubled == array * 2).all()
    doubled += 1


async def test_errors_arrive_as_they_are(handle: Remote[Thing]) -> None:
    """With class, attributes and traceback; one whose class is not known here, and what is no data, in words."""
    with pytest.raises(Unpaid, match="3 EUR") as raised:
        await handle(Thing.unpaid)
    assert raised.value.currency == "EUR"
    assert "raise Unpaid(3" in raised.value.__notes__[0]
    with pytest.raises(RemoteFailure, match="Strange: very"):
        await handle(Thing.strange)
    with pytest.raises(NotSerialisable, match="lock"):
        await handle(Thing.no_data)


async def test_streams_are_taken_item_by_item(handle: Remote[Thing]) -> None:
    """An async generator, a sync one, and one that fails, whose items come before its error."""
    assert [word async for word in handle(Thing.words, 100)][-1] == "word 99"
    assert [point async for point in handle(Thing.points, 40)][-1] == Point(39, 19.5)
    seen: list[int] = []
    with pytest.raises(ValueError, match="two is too many"):  # noqa: PT012 (the error is to come in the iteration)
        async for number in handle(Thing.broken):
            seen.append(number)  # noqa: PERF401 (what came before the error counts)
    assert seen == [1]
    with pytest.raises(RemoteFailure, match="ValidationError: 1 validation error for int"):
        _ = [point async for point in handle(Thing.points, "many")]  # type: ignore[arg-type] # no number


async def test_a_stream_that_is_left_ends_where_it_runs(handle: Remote[Thing], place: Path) -> None:
    """The generator is closed, and has not run far ahead of the caller."""
    stream = handle(Thing.words, 10_000)
    async for word in stream:
        if word == "word 3":
            break
    await stream.aclose()  # type: ignore[attr-defined] # it is a generator
    async with asyncio.timeout(8):  # before it would end for want of a sign of life
        await until((place / "words ended").exists)
    assert int((place / "words").read_text()) < 100


async def test_each_item_of_a_stream_has_a_deadline(handle: Remote[Thing], place: Path) -> None:
    """A stream that says nothing more is given up in time, and ends where it runs."""
    await promises.a_stream_that_says_nothing_more_is_given_up(handle, place)


async def test_a_call_has_a_deadline(handle: Remote[Thing], place: Path) -> None:
    """A call that is not answered in time raises, and is cancelled where it waits."""
    with pytest.raises(CallTimeout):
        await handle.within(0.5)(Thing.wait, "late")
    await until((place / "late cancelled").exists)


async def test_an_async_call_whose_caller_leaves_is_cancelled(handle: Remote[Thing], place: Path) -> None:
    """The method is cancelled where it waits."""
    call = asyncio.create_task(handle(Thing.wait, "left"))
    await until((place / "left began").exists)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await until((place / "left cancelled").exists)


async def admitted(handle: Remote[Thing], name: str) -> None:
    """Wait in the object, as soon as it lets one more."""
    while True:
        try:
            await handle(Thing.wait, name)
        except OwnerBusy:
            await asyncio.sleep(0.02)


async def test_a_call_under_way_at_the_end_of_its_app_ends_too(place: Path) -> None:
    """It raises `OwnerDied`, and is cancelled where it waits; the object stays."""
    async with running(app) as scope:
        handle = await scope.get(far)
        process = await handle(Thing.process)
        left = asyncio.create_task(handle(Thing.wait, "left"))
        await until((place / "left began").exists)
    with pytest.raises(OwnerDied):
        await left
    with pytest.raises(AlreadyClosed):
        await handle(Thing.process)
    await until((place / "left cancelled").exists)
    async with running(app) as scope:
        assert await (await scope.get(far))(Thing.process) == process


async def test_threads_and_waiting_are_bounded(handle: Remote[Thing], place: Path) -> None:
    """Of 60 sync calls 2 run, 38 wait and 20 are refused at once; one that is taken back never runs."""
    calls = [asyncio.create_task(handle(Thing.hold, "go")) for _ in range(60)]
    async with asyncio.timeout(DEADLINE):
        while sum(call.done() for call in calls) < 20 or len(lines(place / "began")) < 2:
            await asyncio.sleep(0.01)
    waiting = [call for call in calls if not call.done()]
    for call in waiting:  # at most two of them run
        call.cancel()
    await asyncio.wait(calls)
    refused = [call.exception() for call in calls if not call.cancelled()]
    assert [type(error) for error in refused] == [OwnerBusy] * 20
    others = [asyncio.create_task(admitted(handle, f"other {number}")) for number in range(38)]
    for number in range(38):  # Ray brings each cancellation by a way of its own, so that calls may overtake it
        await until((place / f"other {number} began").exists)
    (place / "go").touch()
    await asyncio.wait([other for other in others if other.cancel()])
    await handle.within(60)(Thing.count)  # its turn comes after theirs
    assert len(lines(place / "began")) == 2


async def test_an_object_is_ended_by_word(place: Path) -> None:
    """`end` lets a call end and closes what is taken; calls that come meanwhile are of the next object."""
    async with running(app) as scope:
        handle = await scope.get(far)
        first = await handle(Thing.process)
        held = asyncio.create_task(handle(Thing.hold, "answered"))
        await until((place / "began").exists)
        ending = asyncio.create_task(over_ray.end(far, deployment=DEPLOYMENT))
        with pytest.raises(OwnerDied, match="did not start anew"):  # noqa: PT012 (it comes once the word has)
            async with asyncio.timeout(DEADLINE):
                while True:
                    await handle.within(0.5)(Thing.greet, "ada")
        later = asyncio.create_task(handle(Thing.process))
        assert lines(place / "closed") == []
        (place / "answered").touch()
        assert await held
        assert await ending
        assert lines(place / "closed") == [str(first)]
        assert await later == await handle(Thing.process) != first
    assert await over_ray.end(far, deployment=DEPLOYMENT)
    assert not await over_ray.end(far, deployment=DEPLOYMENT)


@hosted(ray={"num_gpus": 1, "runtime_env": {"env_vars": {"GREETING": "hello"}}})
class Placed:
    """What says where it may run, and in which environment."""

    def environment(self) -> list[str | None]:
        """Tell what Ray has set in its environment."""
        return [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "GREETING")]


placed = scoped("cluster", start_timeout=40)(Placed)


async def test_what_is_said_in_words_of_ray_holds(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object gets the GPU that it asks for, and its environment."""
    monkeypatch.setenv("TENURE_DEPLOYMENT", "placed")
    async with running(also=[placed]) as scope:
        handle = await scope.get(placed)
        assert await handle(Placed.environment) == ["0", "hello"]
    assert await over_ray.end(placed, deployment="placed")


async def test_only_what_lives_in_the_cluster_is_ended() -> None:
    """What is host-scoped ends by itself, and a function has no object."""
    with pytest.raises(DeclarationError, match="`Thing` has no object in a Ray cluster"):
        await over_ray.end(thing, deployment=DEPLOYMENT)


class Unplaceable:
    """What no machine of the cluster has room for."""

    def here(self) -> bool:
        """Tell that it is there."""
        return True


unplaceable = scoped("cluster", start_timeout=12)(hosted(ray={"resources": {"quantum": 1}})(Unplaceable))


class Broken:
    """What cannot be made."""

    def __init__(self) -> None:
        msg = "no such model"
        raise FileNotFoundError(msg)


broken = scoped("cluster")(Broken)


class Odd:
    """What asks for what Ray does not take."""


odd = scoped("cluster")(hosted(ray={"num_cpus": "many"})(Odd))


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        (unplaceable, r"Ray has not started `Unplaceable`: it asks for \{'resources': \{'quantum': 1\}\}.*'CPU': 2"),
        (broken, "no such model"),
        (odd, "Ray cannot make an actor for `Odd`: .*num_cpus"),
    ],
    ids=["no place", "its constructor raises", "no option"],
)
async def test_what_cannot_be_made_is_refused_at_the_start(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, resource: Any, said: str
) -> None:
    """The start fails in words, and leaves no actor behind."""
    monkeypatch.setenv("TENURE_DEPLOYMENT", "refused")
    with pytest.raises(StartFailed, match=said):
        async with running(also=[resource]):
            pass
    assert not await over_ray.end(resource, deployment="refused")


async def test_an_old_object_is_noticed(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the object was made of a class that is written otherwise, a warning says how to end it."""
    async with running(app):
        pass
    assert "written otherwise" not in caplog.text
    monkeypatch.setattr("tenure.remote.ray.starting.program_of", lambda kind: "other")
    async with running(app):
        pass
    assert "`far` lives in the cluster, and its class is written otherwise here" in caplog.text


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("local", "RAY_ADDRESS=local would start a cluster"),
        ("ray://127.0.0.1:10001", "is the address of a proxy"),
        ("nowhere", "the Ray cluster at nowhere cannot be joined: Invalid address"),
    ],
)
async def test_without_a_cluster_the_start_is_refused(monkeypatch: pytest.MonkeyPatch, address: str, said: str) -> None:
    """No cluster is started in its place, and the hint says how to have one."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(StartFailed, match=said) as raised:
        async with running(app):
            pass
    assert isinstance(raised.value.__cause__, NoCluster)
    assert "ray start --head" in raised.value.hint


async def test_without_ray_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named before anything is looked for."""
    monkeypatch.setattr("tenure.remote.ray.joining.find_spec", lambda name: None)
    with pytest.raises((StartFailed, MissingExtra), match="which Ray serves, and that is not installed") as raised:
        async with running(app):
            pass
    told = raised.value.__cause__ or raised.value
    assert isinstance(told, MissingExtra)
    assert told.hint == 'pip install "tenure[ray]"'


async def test_an_option_of_ours_is_refused_where_it_is_said() -> None:
    """The name, the life and the restarts of an actor are not the class's to say."""
    with pytest.raises(DeclarationError, match="'lifetime', 'num_gpu', which cannot be said"):
        hosted(ray={"num_gpu": 1, "lifetime": None})


async def test_without_a_name_of_the_deployment_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shares with whom on other machines is never guessed."""
    monkeypatch.delenv("TENURE_DEPLOYMENT", raising=False)
    with pytest.raises(DeclarationError, match="shared among machines"):
        async with running(also=[far]):
            pass
