"""`Lock` at app scope, and its lease and token, which are the same for every engine."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from tenure import Lock, lifespan, running
from tenure.errors import (
    AlreadyClosed,
    DeclarationError,
    LockLost,
    LockTimeout,
    NotReentrant,
    NotStarted,
    PlanError,
    StateFull,
    StateUnavailable,
)
from tenure.state import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

nightly = Lock("nightly", scope="app")


@asynccontextmanager
async def served(lock: Lock = nightly) -> AsyncGenerator[Lock]:
    """Give the lock that can be held."""
    async with running(also=[lock]) as scope:
        yield await scope.get(lock)


async def settle() -> None:
    """Let every task go on until all of them wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_second_request_is_told_that_it_is_held() -> None:
    """While one handler holds the lock, another does not get it; after that, it does."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/{depth}")
    async def work(depth: int, lock: Annotated[Lock, Depends(nightly)]) -> int:
        try:
            async with lock.hold(timeout=0) as held:
                if depth:
                    await asyncio.create_task(work(depth - 1, lock))
                return held.token
        except LockTimeout as error:
            raise HTTPException(409) from error

    with TestClient(app) as client:
        assert [client.get(path).status_code for path in ("/0", "/1", "/0")] == [200, 409, 200]


async def test_who_asks_first_is_next() -> None:
    """Ten who wait get the lock in the order in which they asked, each with a higher token."""
    got: list[tuple[int, int]] = []

    async with served() as lock:

        async def work(number: int) -> None:
            async with lock.hold() as held:
                got.append((number, held.token))
                await asyncio.sleep(0)

        async with lock.hold():
            working = []
            for number in range(10):
                working.append(asyncio.create_task(work(number)))
                await asyncio.sleep(0)
            await settle()
            assert got == []
        await asyncio.gather(*working)
    assert [number for number, _ in got] == list(range(10))
    assert [token for _, token in got] == sorted({token for _, token in got})


async def test_it_is_given_back_whatever_happens() -> None:
    """An error in the block, or its cancellation, ends the holding; the error comes through."""
    async with served() as lock:
        with pytest.raises(KeyError):
            async with lock.hold():
                raise KeyError

        async def work() -> None:
            async with lock.hold():
                await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await settle()
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled()
        async with lock.hold(timeout=0):
            pass


async def test_a_timeout_in_the_block_is_its_own() -> None:
    """A deadline of the user's, inside or around, is not taken for a lost lock."""
    async with served() as lock:
        with pytest.raises(TimeoutError):
            async with lock.hold(), asyncio.timeout(0.01):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), lock.hold():
                await asyncio.Event().wait()
        async with lock.hold(timeout=0):
            pass


async def test_who_waits_too_long_is_told_who_has_it() -> None:
    """The error names the lock, the task that holds it and its line, and the line that wanted it."""
    async with served() as lock:

        async def work() -> None:
            async with lock.hold():
                await asyncio.Event().wait()

        working = asyncio.create_task(work(), name="the nightly job")
        await settle()
        with pytest.raises(LockTimeout) as caught:
            async with lock.hold(timeout=0.01):
                pytest.fail("two hold it")
        working.cancel()

    assert caught.value.message == "the lock `nightly` was not free within 0.01 s"
    holder, wanted, declared = caught.value.path
    line = work.__code__.co_firstlineno
    held, _, where = holder.partition(" by ")
    assert re.fullmatch(r"held for \d+ s", held)
    assert where == f"the task `the nightly job`, at tests/state/test_lock.py:{line + 1}"
    assert wanted.startswith("wanted at tests/state/test_lock.py:")
    assert declared == f"declared at {nightly.location}"


async def test_the_same_task_is_refused_and_still_holds_it() -> None:
    """A task that asks for what it holds is told where it took it; its child that does waits like any other."""
    async with served() as lock:

        async def child() -> None:
            with pytest.raises(LockTimeout):
                async with lock.hold(timeout=0.01):
                    pytest.fail("two hold it")

        async with lock.hold() as held:
            with pytest.raises(NotReentrant, match=r"held for \d+ s by the task .*, at tests/state/test_lock.py"):
                async with lock.hold():
                    pytest.fail("it holds it twice")
            await asyncio.create_task(child())
            held.check()


@given(leaving=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=8))
async def test_cancellations_at_any_point_leave_nothing_behind(leaving: list[tuple[int, int]]) -> None:
    """Whoever leaves whenever, at most one holds it, tokens rise, all who stay get it, and it is free in the end."""
    inside = most = 0
    tokens: list[int] = []

    async with served() as lock:
        before = asyncio.all_tasks()

        async def work() -> None:
            nonlocal inside, most
            async with lock.hold() as held:
                inside += 1
                most = max(most, inside)
                tokens.append(held.token)
                try:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        working = [asyncio.create_task(work()) for _ in range(6)]
        for tick in range(21):
            for who, when in leaving:
                if when == tick:
                    working[who].cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*working, return_exceptions=True)

        assert most == bool(tokens)
        assert tokens == sorted(set(tokens))
        left = {who for who, _ in leaving}
        assert all(outcome is None for who, outcome in enumerate(outcomes) if who not in left)
        async with lock.hold(timeout=0):
            pass
        assert asyncio.all_tasks() == before


# --- leases -----------------------------------------------------------------------------------------------------------


class Watched(MemoryEngine):
    """An engine that can be away, and tells how often it was asked to renew."""

    is_away = False
    asked = 0

    async def renew(self, name: str, *, holder: str, lease: float) -> bool:
        """Renew, unless it is away."""
        self.asked += 1
        self._refuse_if_away()
        return await super().renew(name, holder=holder, lease=lease)

    async def release(self, name: str, *, holder: str) -> None:
        """Release, unless it is away."""
        self._refuse_if_away()
        await super().release(name, holder=holder)

    def _refuse_if_away(self) -> None:
        if self.is_away:
            msg = "the engine does not answer"
            raise StateUnavailable(msg)

    async def asked_again(self) -> None:
        """Wait until it is asked to renew once more."""
        asked = self.asked
        while self.asked == asked:
            await asyncio.sleep(0.01)


short = Lock("short", scope="host", lease=0.06)
process = asynccontextmanager(short.factory)
longer = Lock("longer", scope="host", lease=0.6)
long_process = asynccontextmanager(longer.factory)


async def held_without(engine: Watched, lock: Lock) -> None:
    """Hold a lock whose engine goes away, until cancelled."""
    async with lock.hold():
        engine.is_away = True
        await asyncio.Event().wait()


async def test_a_lease_is_renewed_while_the_block_runs() -> None:
    """Held for longer than its lease, it is still held, and nobody else gets it; then the next has it at once."""
    engine = Watched()
    async with long_process(engine) as here, long_process(engine) as there:
        async with here.hold() as held:
            for _ in range(4):  # a third of the lease each
                await engine.asked_again()
            with pytest.raises(LockTimeout, match="held by another process"):
                async with there.hold(timeout=0.05):
                    pytest.fail("two hold it")
            held.check()
        async with there.hold(timeout=0) as later:
            assert later.token > held.token


async def test_another_process_gets_it_as_soon_as_it_is_free() -> None:
    """One that waits for another process has it within its deadline, once that gives it back."""
    engine = MemoryEngine()
    async with process(engine) as here, process(engine) as there:

        async def work() -> int:
            async with there.hold() as held:
                return held.token

        async with here.hold() as held:
            waiting = asyncio.create_task(work())
            await settle()
            assert not waiting.done()
        assert await waiting > held.token


async def test_a_lock_that_is_lost_cancels_the_block() -> None:
    """Where a pause was longer than the lease, the block ends at its next wait, and the error says why."""
    steps, tokens = list[str](), list[int]()

    async def work(lock: Lock) -> None:
        async with lock.hold() as held:
            tokens.append(held.token)
            time.sleep(0.1)  # noqa: ASYNC251 (what it is about)
            assert held.lost
            with pytest.raises(LockLost):
                held.check()
            steps.append("before")
            await asyncio.Event().wait()
            steps.append("after")

    async with process(MemoryEngine()) as lock:
        working = asyncio.create_task(work(lock))
        with pytest.raises(LockLost, match="the lock `short` was lost"):
            await working
        assert working.cancelling() == 0
        async with lock.hold(timeout=0) as again:
            assert again.token > tokens[0]
    assert steps == ["before"]


async def test_a_block_that_ignores_its_cancellation_is_told_on_leaving() -> None:
    """A block that lost the lock does not end as if it had held it."""

    async def work(lock: Lock) -> None:
        async with lock.hold():
            time.sleep(0.1)  # noqa: ASYNC251 (what it is about)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async with process(MemoryEngine()) as lock:
        with pytest.raises(LockLost):
            await work(lock)


async def test_a_block_that_was_too_long_is_told_on_leaving() -> None:
    """A block that ran past its lease without a wait at which it could be cancelled is told as well."""

    async def work(lock: Lock) -> None:
        async with lock.hold():
            time.sleep(0.1)  # noqa: ASYNC251 (what it is about)

    async with process(MemoryEngine()) as lock:
        with pytest.raises(LockLost):
            await work(lock)


async def test_an_error_of_a_block_that_lost_the_lock_comes_through() -> None:
    """What the block itself raises, such as the refusal of its token, is not hidden."""

    async def work(lock: Lock) -> None:
        async with lock.hold():
            time.sleep(0.1)  # noqa: ASYNC251 (what it is about)
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError

    async with process(MemoryEngine()) as lock:
        with pytest.raises(KeyError):
            await work(lock)


async def test_an_engine_that_is_away_for_less_than_a_lease_costs_nothing() -> None:
    """A renewal that is not answered is tried again until the lease ends."""
    engine = Watched()
    async with long_process(engine) as lock, lock.hold() as held:
        engine.is_away = True
        await engine.asked_again()
        engine.is_away = False
        for _ in range(4):
            await engine.asked_again()
        held.check()


async def test_an_engine_that_stays_away_loses_the_lock(caplog: pytest.LogCaptureFixture) -> None:
    """Without an answer until the lease ends, the block is cancelled; nobody waits for the engine."""
    engine = Watched()

    async with process(engine) as lock:
        with pytest.raises(LockLost):
            await held_without(engine, lock)
    assert engine.asked > 1
    assert "lock:short is given back when its lease of 0.06 s ends: the engine does not answer" in caplog.text


class Full(Watched):
    """An engine that has no room while it is away."""

    def _refuse_if_away(self) -> None:
        if self.is_away:
            msg = "the disk is full"
            raise StateFull(msg)


async def test_whatever_a_renewal_is_refused_for_it_is_tried_again() -> None:
    """An engine that is full for less than a lease costs nothing; for longer, the block is cancelled in time."""
    engine = Full()
    async with long_process(engine) as lock, lock.hold() as held:
        engine.is_away = True
        await engine.asked_again()
        await engine.asked_again()
        engine.is_away = False
        await engine.asked_again()
        held.check()

    async with process(engine) as lock:
        with pytest.raises(LockLost):
            await held_without(engine, lock)


async def test_a_holder_that_is_gone_is_followed_when_its_lease_ends() -> None:
    """The lock of a process that died is had by the next once its lease has run out, with a higher token."""
    engine = MemoryEngine()
    token = await engine.acquire("lock:short", holder="one that is gone", lease=0.1)
    async with process(engine) as lock:
        with pytest.raises(LockTimeout):
            async with lock.hold(timeout=0):
                pytest.fail("two hold it")
        async with lock.hold() as held:
            assert token is not None
            assert held.token > token


# --- declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a:b"},
        {"name": None},
        {"scope": "function"},
        {"scope": "galaxy"},
        {"lease": 0},
        {"lease": math.nan},
        {"lease": math.inf},
        {"lease": "10"},
    ],
)
def test_a_declaration_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Each word of the declaration is held to what it can be."""
    with pytest.raises(DeclarationError):
        Lock(**{"name": "nightly", "scope": "app", **wrong})


async def test_a_time_below_none_is_refused() -> None:
    """One cannot wait for less than no time."""
    async with served() as lock:
        with pytest.raises(DeclarationError, match="timeout=-1 of the lock `nightly` is below 0"):
            async with lock.hold(timeout=-1):
                pytest.fail("it holds it")
        with pytest.raises(DeclarationError, match="timeout=None of the lock `nightly` is no number of seconds"):
            async with lock.hold(timeout=None):  # type: ignore[arg-type] # the point
                pytest.fail("it holds it")


async def test_a_scope_without_an_engine_is_refused_at_start() -> None:
    """A lock that nothing can keep is refused before anything starts; it does not become a narrower one."""
    with pytest.raises(PlanError, match="error\\[missing-engine\\]: `nightly` has the scope"):
        async with served(Lock("nightly", scope="cluster")):
            pytest.fail("it started")


async def test_used_where_it_does_not_live_it_says_so() -> None:
    """The declaration cannot be held, and neither can what has been closed."""
    async with served() as lock:
        pass
    for used, error in ((nightly, NotStarted), (lock, AlreadyClosed)):
        with pytest.raises(error):
            async with used.hold():
                pytest.fail("it holds it")
