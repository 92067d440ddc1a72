"""`Counter` at host scope: one count for all workers, whichever thread, event loop or process adds."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tenure import Counter
from tenure.errors import AlreadyClosed, DeclarationError, StateUnavailable
from tenure.state import deployed
from tenure.state.stores import mapped, places
from tests.state.workers import Worker, in_threads

if TYPE_CHECKING:
    from pathlib import Path

requests = Counter("requests", scope="host")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep state in a folder of the test's own."""
    tmp_path.chmod(0o700)
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("TENURE_DEPLOYMENT", "roster")
    return tmp_path


def counting(counter: Counter) -> AbstractAsyncContextManager[Counter]:
    """Start a counter as an app does."""
    context: AbstractAsyncContextManager[Counter] = asynccontextmanager(counter.factory)()
    return context


async def test_the_loop_threads_and_other_workers_have_one_count(home: Path) -> None:
    """What the event loop, threads and another worker add is in what each of them sees."""
    async with counting(requests) as counter:
        worker = await asyncio.to_thread(Worker, home / "tenure" / "roster" / "counters")
        await asyncio.to_thread(worker.joined)
        assert counter.add() == 1
        assert await asyncio.to_thread(counter.add, 10) == 11
        assert await asyncio.to_thread(worker.ask, "add", 100) == 111
        assert counter.value == counter.add(0) == 111
    assert await asyncio.to_thread(worker.ask, "value") == 111
    await asyncio.to_thread(worker.leave)


async def test_adds_from_threads_and_the_loop_are_all_counted() -> None:
    """Eight threads and the event loop add at once, and every add is in the sum."""
    each = 5_000
    async with counting(requests) as counter:

        def work() -> None:
            for _ in range(each):
                counter.add()

        threads = await asyncio.to_thread(in_threads, 8, work)
        work()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert counter.value == 9 * each


async def test_apps_of_one_deployment_share_a_count() -> None:
    """Two apps of a process, one of them in another thread's event loop, have one count; deployments count apart."""

    async def another() -> list[int]:
        async with counting(Counter("requests", scope="host")) as counter:
            return [counter.add(), counter.add()]

    async with counting(requests) as counter:
        assert counter.add() == 1
        assert await another() == [2, 3]
        assert await asyncio.to_thread(asyncio.run, another()) == [4, 5]
        with deployed("another"):
            assert await another() == [1, 2]
        assert counter.value == 5


@pytest.mark.parametrize("durable", [False, True])
async def test_it_begins_anew_unless_it_is_durable(*, durable: bool) -> None:
    """When its last worker has closed it, it begins at 0; a durable one goes on."""
    visits = Counter("visits", scope="host", durable=durable)
    for number in (1, 2):
        async with counting(visits) as counter:
            assert counter.add() == (number if durable else 1)


async def test_a_durable_count_lies_with_what_is_to_be_kept(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends with its workers and what does not are kept in different places."""
    kept = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(kept))
    async with counting(requests), counting(Counter("visits", scope="host", durable=True)):
        for place in (home, kept):
            assert (place / "tenure" / "roster" / "counters" / "counts").exists()


async def test_a_closed_counter_refuses_to_count() -> None:
    """Used after its app has closed it, from any thread, it says so."""
    async with counting(requests) as counter:
        add = counter.add
    for use in (add, counter.add, lambda: counter.value):
        with pytest.raises(AlreadyClosed, match="used after its app had closed it"):
            use()
        with pytest.raises(AlreadyClosed, match="used after its app had closed it"):
            await asyncio.to_thread(use)


async def test_a_start_that_is_cancelled_takes_no_part(home: Path) -> None:
    """A start that is cancelled while another worker is joining gives back what its thread takes after that."""
    folder = await asyncio.to_thread(places.settled, "roster", "counters")
    assert folder.is_relative_to(home)
    holder = await asyncio.to_thread(lambda: Worker(folder).joined())
    await asyncio.to_thread(holder.ask, "hold")
    begun = threading.Event()

    async def starting() -> None:
        begun.set()
        async with counting(requests):
            pytest.fail("it started")

    task = asyncio.create_task(starting())
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.to_thread(holder.ask, "go on")
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(holder.ask, "add", 1)
    await asyncio.to_thread(holder.kill)
    async with counting(requests) as counter:
        assert counter.value == 0  # nobody was left: the cancelled start holds no row


async def test_a_place_that_is_refused_is_told(home: Path) -> None:
    """Where the folder cannot be made, the start says where."""
    (home / "tenure").write_text("a file")
    with pytest.raises(StateUnavailable, match="cannot be made") as caught:
        await counting(requests).__aenter__()
    assert caught.value.path == (str(home / "tenure"),)
    assert caught.value.hint == "set XDG_RUNTIME_DIR to a folder of this user, the same for all workers"


async def test_a_system_that_cannot_share_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no `flock`, the start says what to do instead."""
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(StateUnavailable, match="cannot share the counter `requests` on win32") as caught:
        await counting(requests).__aenter__()
    assert caught.value.hint == 'count in each worker, `scope="app"`'


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"name": "visits", "scope": "app", "durable": True}, "is to be durable, but lives in memory"),
        ({"name": "ü" * 61, "scope": "host"}, "longer than 120 bytes"),
        ({"name": 5, "scope": "cluster"}, "a counter needs a name, not 5"),
        ({"name": "visits", "scope": "cluster", "interval": "1"}, "interval=1 of the counter `visits` is below"),
    ],
)
def test_what_cannot_be_kept_is_refused(declared: dict[str, Any], message: str) -> None:
    """A declaration that cannot be what it says is refused where it is written."""
    with pytest.raises(DeclarationError, match=message):
        Counter(**declared)


def test_the_longest_name_is_kept(home: Path) -> None:
    """A name of 120 bytes has a count."""
    folder = places.settled("roster", "counters")
    name = Counter("ü" * 60, scope="host").name
    parts = [mapped.share(folder, each, owner=threading.get_ident()) for each in (name, name[:-1], name)]
    assert [part.number.add() for part in parts] == [1, 1, 2]
    for part in parts:
        part.close()
