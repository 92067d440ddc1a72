"""Functions and generators at host and cluster scope: one process runs them, and all have the value."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import anyio
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from tenure import lifespan, override, running, scoped
from tenure.errors import DeclarationError, LockLost, StartFailed, StateUnavailable
from tenure.state import MemoryEngine
from tenure.state.turns import ClusterTurns, Failure, HostTurns, failure
from tests.state.sharers import PATIENCE, Revision, Start, logged, notes, starting, until

if TYPE_CHECKING:
    from tenure.resources import Resource


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give what starts a worker; they are killed in the end."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process share with none but itself."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TENURE_DEPLOYMENT", "test")
    return tmp_path


async def value_of(resource: Resource[Any]) -> Any:
    """Start a resource, and give its value."""
    async with running(also=[resource]) as scope:
        return await scope.get(resource)


# --- a function at host scope -----------------------------------------------------------------------------------------


def test_of_eight_starters_one_runs_it(tmp_path: Path, start: Start) -> None:
    """Eight workers that start at once run a function one time, and all have its value, of its type."""
    workers = [start("migrated") for _ in range(8)]
    until(logged(tmp_path, "migrated is made by another process, and waited for"))
    (tmp_path / "migrate").touch()
    values = [worker.value() for worker in workers]
    assert values == [values[0]] * 8
    assert isinstance(values[0], Revision)
    assert values[0].by in {worker.pid for worker in workers}
    assert notes(tmp_path) == ["migrated"]


def test_the_value_stands_while_anybody_is_left(tmp_path: Path, start: Start) -> None:
    """Who starts later has the value, also when the worker that made it has left."""
    (tmp_path / "migrate").touch()
    one = start("migrated")
    made = one.value()
    other = start("migrated")
    assert other.value() == made
    one.leave()
    assert start("migrated").value() == made
    assert notes(tmp_path) == ["migrated"]


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_it_is_forgotten_when_nobody_is_left(tmp_path: Path, start: Start, end: str) -> None:
    """When all have left, or were killed, the next one runs it again."""
    (tmp_path / "migrate").touch()
    for _ in range(2):
        workers = [start("migrated") for _ in range(2)]
        for worker in workers:
            worker.value()
        for worker in workers:
            getattr(worker, end)()
    assert notes(tmp_path) == ["migrated", "migrated"]


def test_the_last_one_leaves_no_value_behind(tmp_path: Path, start: Start) -> None:
    """What was kept for others is removed by the last of them: it may be a secret."""
    worker = start("hashed")
    assert worker.value() == b""
    folder = tmp_path / "tenure" / "test" / "once"
    assert [path.name for path in folder.glob("*.value")]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    worker.leave()
    assert not list(folder.glob("*.value"))


def test_a_sync_function_may_give_no_bytes_at_all(tmp_path: Path, start: Start) -> None:
    """An empty value is one."""
    assert [start("hashed").value() for _ in range(3)] == [b"", b"", b""]
    assert notes(tmp_path) == ["hashed"]


def test_who_waits_gives_up_at_its_deadline(tmp_path: Path, start: Start) -> None:
    """A function that takes longer than its start may is started no second time: all who wait fail with it."""
    first = start("slow")
    until(lambda: notes(tmp_path) == ["slow"])
    for worker in (first, *(start("slow") for _ in range(2))):
        with pytest.raises(StartFailed, match=r"`slow` did not start: .*it was not ready after 3 s"):
            worker.value()
    assert notes(tmp_path) == ["slow"]


async def test_a_start_that_is_called_off_is_no_failure(alone: Path) -> None:
    """When the start that runs it is cancelled, one that waits runs it, and fails with nothing."""
    runs, begun = [], asyncio.Event()

    @scoped("host")
    async def patient() -> int:
        runs.append(1)
        if len(runs) == 1:
            begun.set()
            await asyncio.sleep(60)
        return len(runs)

    first = asyncio.create_task(value_of(patient))
    await begun.wait()
    second = asyncio.create_task(value_of(patient))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 2
    assert first.cancelled()


async def test_a_failure_is_told_to_those_who_wait(alone: Path) -> None:
    """Who has joined before it was told has it, and who joins after that begins anew."""
    runs, early, late = (HostTurns("test", "migrated") for _ in range(3))
    await runs.join()
    await early.join()
    async with runs.turn() as mine, early.turn() as theirs:
        assert (mine, theirs) == (True, False)
        await runs.fail(failure("no such table"))
    await late.join()
    told = await early.outcome()
    assert isinstance(told, Failure)
    assert (told.message, await late.outcome(), await runs.outcome()) == ("no such table", None, None)
    for turns in (runs, early, late):
        await turns.leave()


# --- a generator at host scope ----------------------------------------------------------------------------------------


def test_a_generator_stays_open_until_the_last_has_left(tmp_path: Path, start: Start) -> None:
    """The worker that runs it waits for the others before it closes it, and each input runs once as well."""
    (tmp_path / "migrate").touch()
    one = start("server")
    made = one.value()
    other = start("server")
    assert (made, other.value()) == (f"42 {one.pid}", made)
    one.tell_to_leave()
    assert notes(tmp_path) == ["migrated", "opened"]
    other.leave()
    one.gone()
    assert notes(tmp_path) == ["migrated", "opened", "closed"]


def test_another_runs_it_when_the_others_stay_for_too_long(tmp_path: Path, start: Start) -> None:
    """The worker that leaves waits half of the close's deadline; then one that stays runs it anew, after the close."""
    one = start("impatient")
    one.value()
    other = start("impatient")
    other.value()
    one.leave()
    until(lambda: notes(tmp_path) == ["opened", "closed", "opened"])
    assert start("impatient").value() == "always the same"
    assert not logged(tmp_path, "another value")()
    assert logged(tmp_path, "impatient ends here while others use it")()


async def test_a_generator_that_is_run_anew_may_give_another_value(
    alone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who had the old value keeps it, which is logged as an error; who starts from then on has the new one."""
    opened: list[int] = []

    @scoped("host", close_timeout=0.2)
    @asynccontextmanager
    async def session() -> AsyncIterator[int]:
        opened.append(1)
        yield len(opened)

    async with AsyncExitStack() as first:
        await first.enter_async_context(running(also=[session]))
        async with running(also=[session]) as scope:
            await first.aclose()
            async with asyncio.timeout(PATIENCE):
                while "session has another value" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert (await scope.get(session), await value_of(session), len(opened)) == (1, 2, 2)


def number() -> int:
    """Give what is made in each process."""
    return 20


def times(factor: int, number: Annotated[int, Depends(number)]) -> int:
    """Take a plain function's value."""
    return factor * number


doubled = scoped("host", name="doubled")(partial(times, 2))


@scoped("host")
def tripled(doubled: Annotated[int, Depends(doubled)], number: Annotated[int, Depends(number)]) -> Iterator[int]:
    """Take what is done once as well."""
    yield doubled + number


async def test_inputs_are_made_as_for_anything_else(alone: Path) -> None:
    """What is done once takes what lives as long, and plain functions, whatever kind of callable it is itself."""
    assert await value_of(tripled) == 60


async def test_a_place_that_is_gone_is_named(alone: Path) -> None:
    """A folder that was removed while it was in use is told as such."""
    turns = HostTurns("test", "migrated")
    await turns.join()
    shutil.rmtree(alone / "tenure")
    with pytest.raises(StateUnavailable, match="what is done once cannot be kept for other workers: No such file"):
        async with turns.turn():
            pass
    await turns.leave()


# --- values -----------------------------------------------------------------------------------------------------------


class Pool:
    """What no other process can have."""


@scoped("host")
async def pool() -> Pool:
    """Make what is no data, and say so."""
    return Pool()


@scoped("host")
def unannotated():  # noqa: ANN201 (what is tested)
    """Make what is no data, and do not say so."""
    return object()


@scoped("host")
def dump() -> bytes:
    """Make too much."""
    return bytes(2_000_000)


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        (unannotated, "cannot be written as JSON\n.*unannotated  host  tests/state/test_once.py"),
        (dump, "a value for the host-scoped `dump` has 2000000 bytes, more than 1048576"),
    ],
)
async def test_a_value_that_others_cannot_have_is_refused(alone: Path, resource: Resource[Any], text: str) -> None:
    """The start fails, names the factory and says what to return instead."""
    with pytest.raises(StartFailed, match=f"(?s){text}.*hint: return what others can make it from"):
        await value_of(resource)


async def test_a_type_that_is_no_data_is_refused_before_anything_starts(alone: Path) -> None:
    """The annotation tells as much as the value would."""
    with pytest.raises(DeclarationError, match="the values of the host-scoped `pool` cannot be of the type"):
        await value_of(pool)


async def test_a_type_that_is_not_defined_is_refused(alone: Path) -> None:
    """A return annotation is read, so its names must be there."""

    @scoped("host")
    async def settings() -> Nowhere:  # type: ignore[name-defined] # noqa: F821 (what is tested)
        return 1

    with pytest.raises(DeclarationError, match="has a value whose annotation cannot be read: name 'Nowhere'"):
        await value_of(settings)


async def test_a_value_of_another_version_is_refused(alone: Path) -> None:
    """Two programs of one deployment that mean different things by one name are told so."""
    one, other = (scoped("host", name="limit")(make) for make in (_text, _number))
    async with running(also=[one]):
        with pytest.raises(StartFailed, match="what is kept for the host-scoped `limit` cannot be read"):
            await value_of(other)


def _text() -> str:
    return "many"


def _number() -> int:
    return 1


async def test_two_of_one_name_are_told_apart(alone: Path) -> None:
    """Two functions that a program makes in one place are not taken for one; a name makes them one."""

    def made(number: int, **settings: Any) -> Resource[int]:
        @scoped("host", **settings)
        def limit() -> int:
            return number

        return limit

    async with running(also=[made(1)]), running(also=[made(3, name="limit")]):
        with pytest.raises(StartFailed, match="two factories are called `limit` here"):
            await value_of(made(2))
        assert await value_of(made(4, name="limit")) == 3


def test_an_override_is_made_by_each_app_for_itself(alone: Path) -> None:
    """What replaces it in a test is not shared, so it may be anything, and others never meet it."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def shown(dump: Annotated[Any, Depends(dump)]) -> str:
        return type(dump).__name__

    with override(app, {dump: object}), TestClient(app) as client:
        assert client.get("/").json() == "object"


# --- at cluster scope -------------------------------------------------------------------------------------------------


Machines = Callable[["Resource[Any]"], Any]


@pytest.fixture
def machine(url: str) -> Machines:
    """Give what starts an app of one deployment, on a machine of its own."""
    deployment = f"test-{uuid4().hex}"

    def start(resource: Resource[Any]) -> Any:
        return running(FastAPI(lifespan=lifespan(also=[resource], deployment=deployment, state=url)))

    return start


async def test_machines_run_it_once(machine: Machines) -> None:
    """The first machine runs it, and the engine keeps its value, also when all machines have left."""
    runs = []

    @scoped("cluster")
    async def migrated() -> Revision:
        runs.append(1)
        return Revision(number=len(runs), by=0)

    async with AsyncExitStack() as stack:
        scopes = [await stack.enter_async_context(machine(migrated)) for _ in range(3)]
        assert [(await scope.get(migrated)).number for scope in scopes] == [1, 1, 1]
    async with machine(migrated) as scope:
        assert await scope.get(migrated) == Revision(number=1, by=0)
    assert runs == [1]


async def test_machines_that_wait_are_told_of_a_failure(machine: Machines) -> None:
    """Machines that start at once fail with the one that runs it; the next start tries anew."""
    runs = []

    @scoped("cluster")
    async def migrated() -> int:
        runs.append(1)
        if len(runs) == 1:
            await anyio.sleep(0.5)
            msg = "no such table"
            raise RuntimeError(msg)
        return len(runs)

    async def fails() -> None:
        with pytest.raises(StartFailed, match="no such table"):
            async with machine(migrated):
                pass

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(fails)
    assert runs == [1]
    async with machine(migrated) as scope:
        assert await scope.get(migrated) == 2


async def test_a_turn_that_was_lost_gives_nothing() -> None:
    """Who has blocked for longer than its lease neither replaces the value of who came after, nor fails the others."""
    engine, loop = MemoryEngine(), asyncio.get_running_loop()
    late, following, waiting = (ClusterTurns(engine, "migrated") for _ in range(3))
    late._lock.lease = 0.05  # noqa: SLF001 (ten seconds are too long for a test)
    with suppress(LockLost):
        async with late.turn() as mine:
            assert mine
            until = loop.time() + 0.1
            while loop.time() < until:  # as a sync call in an async factory
                pass
            async with following.turn() as taken:
                assert taken
                await late.fail(failure("relation already exists", (), ""))
                assert await waiting.outcome() is None
                await following.keep(b"of the next")
                with pytest.raises(LockLost):
                    await late.keep(b"of the late one")
    assert await waiting.outcome() == b"of the next"
