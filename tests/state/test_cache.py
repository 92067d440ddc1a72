"""`Cache` at app scope: what is kept, for how long, how much, and loaded how often."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_validator

from tenure import Cache, lifespan, override, running
from tenure.errors import (
    AlreadyClosed,
    DeclarationError,
    LoadTimeout,
    NotReentrant,
    NotSerialisable,
    NotStarted,
    PlanError,
    StartFailed,
    StateFull,
    StateMismatch,
    StateTooLarge,
)
from tenure.state import MemoryEngine, app_engine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class User(BaseModel):
    """A model whose names differ inside and outside, and that says more than it takes."""

    model_config = {"extra": "forbid"}

    id: int
    name: str = Field(alias="userName")
    score: float = 0.0
    best: float | None = 1.0
    since: date = date(2026, 1, 2)

    @computed_field
    def shown(self) -> str:
        """What is shown of it."""
        return f"{self.name}#{self.id}"


class Growing(BaseModel):
    """A model that does not read what it writes."""

    words: str

    @field_validator("words", mode="before")
    @classmethod
    def once(cls, words: Any) -> Any:
        """Take a list."""
        return " ".join(words) if isinstance(words, list) else 0


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


users = Cache("users", scope="app", type=User)
Users = Annotated[Cache[User], Depends(users)]


@asynccontextmanager
async def served(cache: Cache[Any], clock: Clock | None = None) -> AsyncGenerator[Cache[Any]]:
    """Run an app that has the cache, by a clock if one is given, and give the one that keeps values."""
    app = FastAPI(lifespan=lifespan(also=[cache]))
    with override(app, {app_engine: lambda: MemoryEngine(clock)} if clock else {}):
        async with running(app) as scope:
            yield await scope.get(cache)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_handlers_share_what_is_kept_and_apps_do_not() -> None:
    """A value that one request has set is there for the next, and gone with the app."""
    app = FastAPI(lifespan=lifespan)

    @app.put("/{key}")
    async def put(key: str, user: User, users: Users) -> None:
        await users.set(key, user)

    @app.get("/{key}")
    async def get(key: str, users: Users) -> User | None:
        return await users.get(key)

    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/ada").json() is None
            client.put("/ada", json={"id": 1, "userName": "ada"})
            assert client.get("/ada").json()["shown"] == "ada#1"


async def test_a_value_comes_back_as_a_copy() -> None:
    """What one gets equals what was set, with aliases, computed fields and numbers that are none, and is another."""
    user = User(id=1, userName="ada", score=math.inf, best=None)
    async with served(users) as cache:
        await cache.set("ada", user)
        got = await cache.get("ada")
        assert got == user
        got.name = "grace"
        assert await cache.get("ada") == user

        async def load() -> User:
            return user

        loaded = await cache.get_or_load("grace", load)
        assert loaded == user
        assert loaded is not user


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (None, {"a": [1, 2.5, None, True, "ä"], "b": 2**70}),
        (bytes, b"\x00\xff"),
        (bytes, b""),
        (float, -math.inf),
        (list[date], [date(2026, 11, 25)]),
        (dict[int, set[str]], {1: {"a"}}),
        (tuple[int, ...], (1, 2)),
    ],
)
async def test_values_of_many_types_come_back(kind: Any, value: Any) -> None:
    """What is of the declared type comes back as that; without a type, whatever JSON holds."""
    async with served(Cache("things", scope="app", type=kind)) as cache:
        await cache.set("key", value)
        assert await cache.get("key") == value
        assert type(await cache.get("key")) is type(value)


async def test_nothing_may_be_a_value() -> None:
    """A type in brackets may be a union; a kept `None` is a value, which is not loaded again."""
    loads = []

    async def load() -> None:
        loads.append(1)

    async with served(Cache[User | None]("maybe", scope="app")) as cache:
        assert [await cache.get_or_load("nobody", load) for _ in range(2)] == [None, None]
        await cache.set("ada", User(id=1, userName="ada"))
        assert isinstance(await cache.get("ada"), User)
    assert loads == [1]


async def test_what_another_version_wrote_counts_as_none(caplog: pytest.LogCaptureFixture) -> None:
    """A value that is not of the type is not handed out, but loaded anew, and the log says so."""

    async def load() -> User:
        return User(id=2, userName="new")

    async with served(users) as cache:
        assert await cache.increment("ada") == 1
        assert await cache.get("ada") is None
        assert (await cache.get_or_load("ada", load)).id == 2
        assert (await cache.get("ada")).id == 2
    assert "a value counts as none: what is kept for the cache `users` cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (None, b"raw"),
        (None, object()),
        (None, "\ud800"),
        (bytes, "text"),
        (int, "1"),
        (User, {"id": 1}),
        (list[int], ["a"]),
    ],
)
async def test_what_cannot_be_written_is_refused(kind: Any, value: Any) -> None:
    """A value that is not of the type, or that JSON cannot hold, is refused and nothing is kept."""
    async with served(Cache("things", scope="app", type=kind)) as cache:
        with pytest.raises(NotSerialisable, match="a value for the cache `things`"):
            await cache.set("key", value)
        assert await cache.get("key") is None


async def test_a_circle_cannot_be_written() -> None:
    """A list that holds itself is refused as any other value that JSON cannot hold."""
    circle: list[Any] = []
    circle.append(circle)
    async with served(Cache("things", scope="app")) as cache:
        with pytest.raises(NotSerialisable):
            await cache.set("key", circle)


async def test_large_values_and_keys_are_refused() -> None:
    """One byte more than the bound is too much, for a value as for a key; the bound itself is not."""
    async with served(Cache("things", scope="app", type=bytes, max_bytes=10)) as cache:
        await cache.set("k" * 512, bytes(10))
        with pytest.raises(StateTooLarge, match="has 11 bytes, more than 10"):
            await cache.set("key", bytes(11))
        for use in (cache.get, cache.delete, cache.increment):
            with pytest.raises(StateTooLarge, match="has 513 bytes, more than 512"):
                await use("ä" * 256 + "k")
        for key in ("\ud800", 7):
            with pytest.raises(NotSerialisable, match="is not text"):
                await cache.get(key)


# --- for how long and how much ----------------------------------------------------------------------------------------

KEYS = st.sampled_from("abcde")
TTLS = st.none() | st.integers(1, 5)
STEPS = st.one_of(
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("set"), KEYS, st.integers(0, 9), TTLS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("increment"), KEYS, st.integers(-3, 3), TTLS),
    st.tuples(st.just("load"), KEYS, st.integers(0, 9), TTLS),
    st.tuples(st.just("wait"), st.integers(1, 4)),
)


class Model:
    """What a cache is to do, in the plainest way: a dictionary in the order of use."""

    def __init__(self, clock: Clock, room: int) -> None:
        self.kept: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.clock = clock
        self.room = room

    def get(self, key: str) -> int | None:
        """Give what is there."""
        number, expires = self.kept.get(key, (0, -1.0))
        if expires <= self.clock.now:
            self.kept.pop(key, None)
            return None
        self.kept.move_to_end(key)
        return number

    def set(self, key: str, number: int, ttl: float | None) -> None:
        """Keep it as the last that was used."""
        self.put(key, number, math.inf if ttl is None else self.clock.now + ttl)

    def put(self, key: str, number: int, expires: float) -> None:
        """Keep it, within the room there is."""
        self.kept.pop(key, None)
        self.kept[key] = number, expires
        while len(self.kept) > self.room:
            self.kept.popitem(last=False)

    def delete(self, key: str) -> bool:
        """Tell whether there was one."""
        there = key in self.kept and self.kept[key][1] > self.clock.now
        self.kept.pop(key, None)
        return there

    def increment(self, key: str, by: int, ttl: float | None) -> int:
        """Add; the first one sets the expiry."""
        number = self.get(key)
        if number is None:
            self.set(key, by, ttl)
            return by
        self.put(key, number + by, self.kept[key][1])
        return number + by

    def load(self, key: str, number: int, ttl: float | None) -> int:
        """Give what is there, or what is loaded."""
        got = self.get(key)
        if got is None:
            self.set(key, number, ttl)
            return number
        return got


@given(steps=st.lists(STEPS, max_size=40), ttl=TTLS, room=st.integers(1, 5))
async def test_it_is_a_dictionary_with_expiry_and_bounds(steps: list[tuple[Any, ...]], ttl: Any, room: int) -> None:
    """Whatever is done in whatever order, each call gives what a plain dictionary with expiry would give."""
    clock = Clock()
    model = Model(clock, room)

    async with served(Cache("numbers", scope="app", ttl=ttl, max_entries=room, type=int), clock) as cache:
        for step, *inputs in steps:
            match step, inputs:
                case "wait", [seconds]:
                    clock.now += seconds
                case "get" | "delete", [key]:
                    assert await getattr(cache, step)(key) == getattr(model, step)(key)
                case "set", [key, number, own]:
                    await cache.set(key, number, ttl=own)
                    model.set(key, number, own or ttl)
                case "increment", [key, by, own]:
                    assert await cache.increment(key, by, ttl=own) == model.increment(key, by, own or ttl)
                case "load", [key, number, own]:

                    async def load(loaded: int = number) -> int:
                        return loaded

                    assert await cache.get_or_load(key, load, ttl=own) == model.load(key, number, own or ttl)


async def test_what_was_used_least_recently_goes_first_when_bytes_are_many() -> None:
    """A cache that is full of bytes drops what was not read for longest, as many as it takes."""
    full = Cache("pages", scope="app", type=bytes, max_bytes=100, max_total_bytes=1000)
    async with served(full) as cache:
        for number in range(8):
            await cache.set(f"{number}", bytes(100))
        await cache.get("0")
        await cache.set("k" * 200, bytes(100))
        assert [number for number in range(8) if await cache.get(f"{number}") is not None] == [0, 3, 4, 5, 6, 7]


# --- numbers ----------------------------------------------------------------------------------------------------------


async def test_a_limit_lets_through_as_many_as_it_says() -> None:
    """Of fifty who come at once, exactly ten get a number that is not above ten; after the window, ten again."""
    clock = Clock()
    async with served(Cache("limits", scope="app", ttl=60), clock) as cache:
        for _ in range(2):
            numbers = await asyncio.gather(*(cache.increment("ada") for _ in range(50)))
            assert sorted(numbers) == list(range(1, 51))
            clock.now += 59
            assert await cache.increment("ada", 0) == 50
            clock.now += 1


async def test_only_whole_numbers_of_64_bits_are_added_to() -> None:
    """What is not a whole number, or would leave 64 bits, is refused and stays as it was."""
    async with served(Cache("things", scope="app")) as cache:
        for value in ("5", 1.5, None, [1], True):
            await cache.set("key", value)
            with pytest.raises(StateMismatch):
                await cache.increment("key")
            assert await cache.get("key") == value
        await cache.set("key", 2**63 - 2)
        assert await cache.increment("key") == 2**63 - 1
        with pytest.raises(StateFull):
            await cache.increment("key")
        assert await cache.increment("key", -(2**64) + 1) == -(2**63)
        with pytest.raises(StateFull):
            await cache.increment("key", -1)
        with pytest.raises(StateFull):
            await cache.increment("new", 2**63)
        assert await cache.get("new") is None


# --- loads ------------------------------------------------------------------------------------------------------------


class Source:
    """Something slow to load from, that tells how often it was asked."""

    def __init__(self) -> None:
        self.loads = 0
        self.begun = asyncio.Event()
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def load(self) -> int:
        """Wait for the answer."""
        self.loads += 1
        self.begun.set()
        return await asyncio.shield(self.answer)


numbers = Cache("numbers", scope="app", type=int)


async def settle() -> None:
    """Let every task go on until all of them wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_loads_for_all() -> None:
    """Of a hundred who want a value at once, one loads it; who comes later is given what is kept."""
    source = Source()
    async with served(numbers) as cache:
        wanting = [asyncio.create_task(cache.get_or_load("key", source.load)) for _ in range(100)]
        await source.begun.wait()
        source.answer.set_result(42)
        assert await asyncio.gather(*wanting) == [42] * 100
        assert await cache.get_or_load("key", source.load) == 42
    assert source.loads == 1


async def test_keys_are_loaded_beside_each_other() -> None:
    """A slow load of one key holds up no other."""
    slow, quick = Source(), Source()
    quick.answer.set_result(1)
    async with served(numbers) as cache:
        waiting = asyncio.create_task(cache.get_or_load("slow", slow.load))
        await slow.begun.wait()
        assert await cache.get_or_load("quick", quick.load) == 1
        slow.answer.set_result(2)
        assert await waiting == 2


async def test_a_failure_is_raised_to_all_who_wait_and_not_kept() -> None:
    """The load's own error reaches each of them, and the next one loads anew."""
    source = Source()
    async with served(numbers) as cache:
        wanting = [asyncio.create_task(cache.get_or_load("key", source.load)) for _ in range(3)]
        await source.begun.wait()
        await settle()
        source.answer.set_exception(OSError("the source is away"))
        raised = await asyncio.gather(*wanting, return_exceptions=True)
        assert [repr(error) for error in raised] == ["OSError('the source is away')"] * 3
        assert source.loads == 1

        again = Source()
        again.answer.set_result(7)
        assert await cache.get_or_load("key", again.load) == 7


async def test_a_loaded_value_that_cannot_be_kept_is_a_failure() -> None:
    """What the load gives is held to the type, as what is set is."""

    async def load() -> Any:
        return "seven"

    async with served(numbers) as cache:
        with pytest.raises(NotSerialisable):
            await cache.get_or_load("key", load)


async def test_a_loaded_value_that_cannot_be_read_again_is_a_failure() -> None:
    """A type that does not read what it writes is told at the first load, not by loading for ever."""

    async def load() -> Growing:
        return Growing.model_validate({"words": ["a", "b"]})

    async with served(Cache("growing", scope="app", type=Growing)) as cache:
        with pytest.raises(NotSerialisable, match="cannot be read again"):
            await cache.get_or_load("key", load)


async def test_when_the_one_who_loads_is_cancelled_another_loads() -> None:
    """The load ends with the task it runs in, and the others are served by the next one's function."""
    first, second = Source(), Source()
    async with served(numbers) as cache:
        leaving = asyncio.create_task(cache.get_or_load("key", first.load))
        await first.begun.wait()
        staying = [asyncio.create_task(cache.get_or_load("key", second.load)) for _ in range(3)]
        await settle()
        leaving.cancel()
        await second.begun.wait()
        second.answer.set_result(2)
        assert await asyncio.gather(*staying) == [2, 2, 2]
        assert leaving.cancelled()
    assert (first.loads, second.loads) == (1, 1)


async def test_one_who_waits_may_leave() -> None:
    """The cancellation of one who only waits changes nothing for the load and the others."""
    source = Source()
    async with served(numbers) as cache:
        wanting = [asyncio.create_task(cache.get_or_load("key", source.load)) for _ in range(3)]
        await source.begun.wait()
        await settle()
        wanting[1].cancel()
        await settle()
        source.answer.set_result(3)
        assert [await wanting[0], await wanting[2]] == [3, 3]
        assert wanting[1].cancelled()
    assert source.loads == 1


async def test_a_load_has_a_deadline_for_all() -> None:
    """A load that takes too long is cancelled, and all who wait are told which value of which cache it was."""
    source = Source()
    async with served(Cache("slow", scope="app", type=int, load_timeout=0.05)) as cache:
        wanting = [asyncio.create_task(cache.get_or_load("key", source.load)) for _ in range(3)]
        raised = await asyncio.gather(*wanting, return_exceptions=True)
        assert [type(error) for error in raised] == [LoadTimeout] * 3
        assert "of the cache `slow` was not loaded within 0.05 s" in str(raised[0])
        assert "the key 'key'" in str(raised[0])
    assert source.loads == 1


async def test_a_timeout_of_the_load_itself_is_its_own() -> None:
    """A `TimeoutError` that the load raises comes through as it is."""

    async def load() -> int:
        msg = "the source is slow"
        raise TimeoutError(msg)

    async with served(numbers) as cache:
        with pytest.raises(TimeoutError, match="the source is slow"):
            await cache.get_or_load("key", load)


async def test_a_load_that_wants_its_own_value_is_refused() -> None:
    """It would wait for itself; a load that wants another value of the cache is served."""
    async with served(numbers) as cache:

        async def one() -> int:
            return 1

        async def more() -> int:
            return await cache.get_or_load("one", one) + 1

        async def circle() -> int:
            return await cache.get_or_load("circle", circle)

        assert await cache.get_or_load("two", more) == 2
        with pytest.raises(NotReentrant, match="wants the value that it is to load"):
            await cache.get_or_load("circle", circle)


@given(leaving=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 12)), max_size=12), fails=st.booleans())
async def test_cancellations_at_any_point_leave_nothing_behind(leaving: list[tuple[int, int]], *, fails: bool) -> None:
    """Whoever leaves whenever, never are two loads under way, who stays is served, and the cache is as good as new."""
    under_way = most = 0

    async def load() -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if fails:
                msg = "the source is away"
                raise OSError(msg)
            return 5
        finally:
            under_way -= 1

    async with served(numbers) as cache:
        before = asyncio.all_tasks()
        wanting = [asyncio.create_task(cache.get_or_load("key", load)) for _ in range(8)]
        for tick in range(13):
            for who, when in leaving:
                if when == tick:
                    wanting[who].cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*wanting, return_exceptions=True)
        left = {who for who, _ in leaving}
        expected = OSError if fails else int
        assert all(isinstance(each, expected) for who, each in enumerate(outcomes) if who not in left)
        assert all(isinstance(each, expected | asyncio.CancelledError) for each in outcomes)
        assert most <= 1
        five = Source()
        five.answer.set_result(5)
        assert await cache.get_or_load("key", five.load) == 5
        assert asyncio.all_tasks() == before


# --- between processes: two handles on one engine, as two processes have them -----------------------------------------

shared = Cache("shared", scope="host", type=int)
process = asynccontextmanager(shared.factory)


async def test_one_loads_for_all_processes() -> None:
    """While one process loads, the others wait for its value, and find it."""
    source, engine = Source(), MemoryEngine()
    async with process(engine) as here, process(engine) as there:
        first = asyncio.create_task(here.get_or_load("key", source.load))
        await source.begun.wait()
        others = [asyncio.create_task(cache.get_or_load("key", source.load)) for cache in (here, there, there)]
        await settle()
        source.answer.set_result(42)
        assert await asyncio.gather(first, *others) == [42] * 4
    assert source.loads == 1


async def test_a_failure_lets_another_process_try() -> None:
    """Where one process fails to load, the next loads at once, and not when a lease has run out."""
    failing, source, engine = Source(), Source(), MemoryEngine(Clock())
    async with process(engine) as here, process(engine) as there:
        first = asyncio.create_task(here.get_or_load("key", failing.load))
        await failing.begun.wait()
        second = asyncio.create_task(there.get_or_load("key", source.load))
        await settle()
        failing.answer.set_exception(OSError("the source is away"))
        with pytest.raises(OSError, match="the source is away"):
            await first
        source.answer.set_result(3)
        assert await second == 3


async def test_a_process_that_dies_while_it_loads_is_replaced() -> None:
    """When the lease of one that is gone has run out, another loads."""
    source, clock = Source(), Clock()
    engine = MemoryEngine(clock)
    assert await engine.acquire("load:cache:shared:key", holder="one that is gone", lease=10)
    async with process(engine) as cache:
        waiting = asyncio.create_task(cache.get_or_load("key", source.load))
        await settle()
        assert source.loads == 0
        clock.now += 10
        source.answer.set_result(8)
        assert await waiting == 8


# --- declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a:b"},
        {"name": "n" * 121},
        {"scope": "request"},
        {"scope": "galaxy"},
        {"ttl": 0},
        {"ttl": math.nan},
        {"ttl": timedelta(seconds=1)},
        {"name": None},
        {"max_entries": 0},
        {"max_bytes": 0},
        {"max_total_bytes": 1000},
        {"load_timeout": -1},
    ],
)
def test_a_declaration_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Each word of the declaration is held to what it can be."""
    with pytest.raises(DeclarationError):
        Cache(**{"name": "users", "scope": "app", **wrong})


async def test_a_time_that_is_none_is_refused() -> None:
    """A call's own `ttl` is held to the same."""
    async with served(numbers) as cache:
        for ttl in (0, -1, math.nan):
            with pytest.raises(DeclarationError, match="of the cache `numbers` is not above 0"):
                await cache.set("key", 1, ttl=ttl)


async def test_a_type_that_cannot_be_kept_is_refused_at_start() -> None:
    """A class that Pydantic does not know is named before anything is kept."""
    with pytest.raises(StartFailed, match=r"the values of the cache `things` cannot be of the type .*Clock"):
        async with served(Cache("things", scope="app", type=Clock)):
            pytest.fail("it started")


async def test_a_scope_without_an_engine_is_refused_at_start() -> None:
    """A cache that nothing can keep is refused before anything starts; it does not become a narrower one."""
    with pytest.raises(PlanError, match="error\\[missing-engine\\]: `users` has the scope"):
        async with served(Cache("users", scope="cluster")):
            pytest.fail("it started")


async def test_used_where_it_does_not_live_it_says_so() -> None:
    """The declaration keeps nothing, and neither does what has been closed."""

    async def load() -> User:
        pytest.fail("it loaded")

    async with served(users) as cache:
        pass
    for used, error in ((users, NotStarted), (cache, AlreadyClosed)):
        with pytest.raises(error):
            await used.get("key")
        with pytest.raises(error):
            await used.set("key", User(id=1, userName="ada"))
        with pytest.raises(error):
            await used.delete("key")
        with pytest.raises(error):
            await used.increment("key")
        with pytest.raises(error):
            await used.get_or_load("key", load)


def test_findings_name_the_line_of_the_declaration() -> None:
    """Two caches of one name are refused with the user's lines, also where the type stands in brackets."""
    first, second = Cache("visits", scope="app"), Cache[int]("visits", scope="app")
    with pytest.raises(PlanError) as caught, TestClient(FastAPI(lifespan=lifespan(also=[first, second]))):
        pytest.fail("it started")
    places = [line.split()[-1] for line in caught.value.findings[0].path if "test_cache.py" in line]
    assert places == [first.location, second.location]
