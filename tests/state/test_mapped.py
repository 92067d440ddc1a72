"""The count of a host: exact, whoever adds; nothing that was acknowledged is lost, whoever is killed."""

from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tenure.errors import AlreadyClosed, StateFull, StateMismatch, StateUnavailable
from tenure.state.stores import counts, rows
from tenure.state.stores.counts import Layout
from tenure.state.stores.mapped import share
from tests.state.workers import NAME, Worker, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tenure.state.stores.mapped import Share

Start: TypeAlias = "Callable[..., Worker]"


@pytest.fixture
def mine(folder: Path) -> Iterator[Share]:
    """One share of the test's own process, owned by the thread of the test."""
    share = joined(folder)
    yield share
    share.close()


def joined(folder: Path, name: str = NAME, **options: Any) -> Share:
    """Share the counts from the thread of the test."""
    return share(folder, name, owner=threading.get_ident(), **options)


# --- exact ------------------------------------------------------------------------------------------------------------


def test_adds_from_threads_and_their_owner_are_all_counted(mine: Share) -> None:
    """The owner adds without a lock while four threads take turns, and every add is in the sum."""
    each = 20_000

    def work() -> None:
        for _ in range(each):
            mine.number.add()

    threads = in_threads(4, work)
    work()
    for thread in threads:
        thread.join()
    assert mine.number.value == 5 * each


def test_adds_from_processes_threads_and_forked_children_are_all_counted(mine: Share, start: Start) -> None:
    """Workers with threads, and with children that are forked while these add: every add is in the sum."""
    workers = [start().joined() for _ in range(3)]
    for worker in workers:
        worker.tell("add_everywhere", 500)
    for _ in range(2_000):
        mine.number.add()
    assert mine.number.value >= 2_000
    assert sum(worker.answer() for worker in workers) + 2_000 == mine.number.value == workers[0].ask("value")


def test_an_add_is_seen_by_all_at_once(mine: Share, start: Start) -> None:
    """What has returned is in what anyone reads or adds to afterwards, whichever thread did it."""
    first, second = start().joined(), start().joined()
    assert mine.number.add() == 1
    assert first.ask("add", 10) == 11
    assert second.ask("value") == 11
    assert second.ask("add_in_thread", 100) == 111
    assert mine.number.add(-1000) == -889
    assert first.ask("add_in_thread", 0) == mine.number.value == -889


def test_one_alone_reads_its_other_threads(mine: Share) -> None:
    """A process that is alone sees in each add what its threads have added before."""
    assert mine.number.add() == 1
    for thread in in_threads(1, mine.number.add):
        thread.join()
    assert mine.number.add() == 3


def test_names_are_counted_apart(mine: Share, folder: Path, start: Start) -> None:
    """Each name has a count of its own, the same in each process, in whatever order these meet the names."""
    other = start(name="größer").joined()
    assert start(name="größer").joined().ask("add", 2) == 2
    own = joined(folder, "other")
    assert (other.ask("add", 5), own.number.add(7), mine.number.value) == (7, 7, 0)
    assert other.ask("another", "other") == 8
    own.close()


def test_apps_of_one_process_share_its_row(mine: Share, folder: Path, start: Start) -> None:
    """Two apps in one process, each in a thread of its own, count in one row, until both are closed."""
    values: list[int] = []

    def other_app() -> None:
        part = joined(folder)
        values.extend(part.number.add() for _ in range(3))
        part.close()
        part.close()

    for thread in in_threads(1, other_app):
        thread.join()
    assert values == [1, 2, 3]
    assert mine.number.add() == 4
    assert start().joined().ask("add", 1) == 5
    assert {path.name for path in folder.glob("row.*")} == {"row.0", "row.1"}


def test_no_reader_sees_half_an_add(mine: Share, start: Start) -> None:
    """A number whose every byte changes is read whole, while another process writes it."""
    n = 0x1122_3344_5566_7788
    swinging = start().joined()
    swinging.tell("swing", n)
    swinging.answer()
    seen: set[int] = set()
    while len(seen) < 2:
        seen |= {mine.number.value for _ in range(100_000)}
    assert seen == {0, n}


# --- forked children --------------------------------------------------------------------------------------------------


def test_a_forked_child_only_reads(start: Start) -> None:
    """A child that never adds sees the count too."""
    worker = start().joined()
    worker.ask("add", 7)
    assert worker.ask("forked_value") == 7
    assert worker.answer() == 0


def test_a_forked_child_outlives_its_parent(start: Start, folder: Path) -> None:
    """A child whose parent was killed joins at its first add, and takes the parent's row with its content."""
    stays, parent = start().joined(), start().joined()
    parent.ask("add", 3)
    parent.ask("leave_child")
    assert stays.ask("add", 4) == 7
    assert parent.orphan() == 8
    assert stays.ask("value") == 8
    assert len(list(folder.glob("row.*"))) == 2


def test_a_forked_child_that_did_not_count_is_nobody(start: Start) -> None:
    """A child that has not used the count does not keep it going: if all others are gone, it begins anew."""
    parent = start().joined()
    parent.ask("add", 3)
    parent.ask("leave_child")
    assert parent.orphan() == 1


def test_an_app_in_a_forked_child_has_a_share_of_its_own(start: Start) -> None:
    """A child that shares the counts itself gives them back when that share is closed, and disturbs nobody."""
    parent = start().joined()
    parent.ask("add", 3)
    assert parent.ask("share_in_child") == 4
    assert (parent.answer(), parent.answer()) == ("closed", 0)
    assert parent.ask("add", 1) == 5


# --- who comes and goes -----------------------------------------------------------------------------------------------


def test_what_was_acknowledged_outlives_a_kill(mine: Share, start: Start) -> None:
    """Of workers killed while they add, no fewer adds are counted than were acknowledged, no more than were sent."""
    sent = acknowledged = 0
    for _ in range(10):
        workers = [start().joined() for _ in range(2)]
        for worker in workers:
            worker.tell("rush")
        for worker in workers:
            said = [worker.answer() for _ in range(200)] + worker.kill()
            sent += said.count("sent")
            acknowledged += said.count("acknowledged")
        assert acknowledged <= mine.number.value <= sent
    assert acknowledged >= 2000


def test_three_hundred_workers_leave_no_trace_but_their_adds(start: Start, folder: Path) -> None:
    """Each next worker takes the row of the one before, dead or gone, with its content: the file does not grow."""
    stays = start().joined()
    start().joined().leave()
    before = sorted(path.name for path in folder.iterdir()), blocks(folder)
    for number in range(300):
        worker = start().joined()
        assert worker.ask("add", 1) == number + 1
        if number % 2:
            worker.leave()
        else:
            worker.kill()
    assert stays.ask("value") == 300
    assert (sorted(path.name for path in folder.iterdir()), blocks(folder)) == before


def blocks(folder: Path) -> int:
    """Tell how much room the count takes."""
    return (folder / "counts").stat().st_blocks


def test_eight_starters_at_once_share_one_count(start: Start, folder: Path) -> None:
    """Processes that start at the same moment find the same count, each with a row of its own."""
    workers = [start() for _ in range(8)]
    for worker in workers:
        worker.joined()
    assert len({worker.ask("epoch") for worker in workers}) == 1
    for worker in workers:
        worker.ask("add", 1)
    assert {worker.ask("value") for worker in workers} == {8}
    assert len(list(folder.glob("row.*"))) == 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_it_begins_anew_when_nobody_is_left(start: Start, end: str) -> None:
    """One that comes or goes resets nothing; when the last has left or was killed, the next begins at 0."""
    first, second = start().joined(), start().joined()
    epoch = first.ask("epoch")
    first.ask("add", 5)
    getattr(first, end)()
    third = start().joined()
    assert (third.ask("value"), third.ask("epoch")) == (5, epoch)
    for worker in (second, third):
        getattr(worker, end)()
    fourth = start().joined()
    assert fourth.ask("value") == 0
    assert fourth.ask("epoch") != epoch


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_a_durable_count_goes_on(start: Start, end: str) -> None:
    """What is durable is there when nobody was left."""
    for number in range(1, 4):
        worker = start(durable=True).joined()
        assert worker.ask("add_in_thread", 1) == 2 * number - 1
        assert worker.ask("add", 1) == 2 * number
        getattr(worker, end)()


def test_a_restart_of_the_machine_begins_a_new_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart the count begins at 0; a durable one goes on."""
    durable = folder / "durable"
    durable.mkdir()
    epochs, values = [], []
    for boot in ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"):
        (folder / "boot").write_text(f"{boot}\n")
        monkeypatch.setattr(counts, "_BOOT_ID", folder / "boot")
        shares = [joined(folder), joined(durable, durable=True)]
        epochs.append([each.epoch for each in shares])
        values.append([each.number.add() for each in shares])
        counts.CountsFile(durable / "counts", durable=True, in_use=True)  # as the next worker does
        for each in shares:
            each.close()
    assert values == [[1, 1], [1, 2]]
    assert [before == after for before, after in zip(*epochs, strict=True)] == [False, True]


def test_a_worker_that_is_killed_while_it_joins_is_in_nobodys_way(mine: Share, start: Start) -> None:
    """Whoever dies while others wait for it lets them in."""
    mine.number.add()
    holder = start().joined()
    holder.tell("hold")
    holder.answer()
    waiting = start()
    holder.kill()
    assert waiting.joined().ask("value") == 1


def test_a_child_that_inherits_a_lock_does_not_keep_it(mine: Share, start: Start) -> None:
    """What is forked, without a word to Python, by a worker that is joining keeps nobody from joining after that."""
    mine.number.add()
    worker = start().joined()
    assert worker.ask("hold_and_fork")
    assert start().joined().ask("value") == 1


def test_a_machine_without_a_number_for_its_starts_is_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell its starts apart, counts are shared all the same."""
    monkeypatch.setattr(counts, "_BOOT_ID", folder / "missing")
    first = joined(folder)
    assert first.number.add() == 1
    first.close()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_more_names_than_columns_are_refused(folder: Path) -> None:
    """One name too many is refused, and the others go on."""
    few = Layout(columns=2)
    shares = [joined(folder, name, layout=few) for name in ("one", "two")]
    for _ in range(2):
        with pytest.raises(StateFull, match="no room for the counter `three`: there are 2 others"):
            joined(folder, "three", layout=few)
    assert [each.number.add() for each in (*shares, joined(folder, "two"))] == [1, 1, 2]


def test_more_processes_than_rows_are_refused(folder: Path, start: Start) -> None:
    """One process too many is refused, and is let in when another has left."""
    few = Layout(rows=2)
    first, second = start(layout=few).joined(), start(layout=few).joined()
    first.ask("add", 1)
    second.ask("add", 2)
    for _ in range(2):
        with pytest.raises(StateFull, match="no room for one more process: 2 share these counts"):
            start(layout=few).joined()
    second.kill()
    third = start(layout=few).joined()
    assert third.ask("add", 4) == first.ask("value") == 7


def test_a_forked_child_that_finds_no_room_is_refused(start: Start) -> None:
    """It never writes to its parent's row instead."""
    worker = start(layout=Layout(rows=1)).joined()
    worker.ask("add", 1)
    assert worker.ask("forked_value") != 0
    assert worker.ask("add", 1) == 2


@pytest.mark.parametrize("order", ["add", "add_in_thread"])
def test_a_number_beyond_64_bits_is_refused(mine: Share, start: Start, order: str) -> None:
    """An add that a row has no room for changes nothing."""
    worker = start().joined()
    largest = 2**63 - 1
    worker.ask("add", largest)
    assert mine.number.add(5) == largest + 5
    worker.ask("add_in_thread", largest)
    with pytest.raises(StateFull, match=f"`{NAME}` has no room for 1 more"):
        worker.ask("add", 1) if order == "add" else raised_in_thread(mine, largest)
    assert worker.ask("add", -1) >= largest


def raised_in_thread(mine: Share, n: int) -> None:
    """Add too much from another thread than the owner's, and raise what that raises."""
    errors: list[BaseException] = []

    def work() -> None:
        mine.number.add(n)
        try:
            mine.number.add(1)
        except StateFull as error:
            errors.append(error)

    for thread in in_threads(1, work):
        thread.join()
    raise errors[0]


def test_a_device_without_room_is_refused(mine: Share, start: Start) -> None:
    """A count that there is no room for is refused when it is made, and the others go on."""
    worker = start().joined()
    worker.ask("limit", 4096)
    with pytest.raises(StateUnavailable, match="File too large"):
        worker.ask("another", "more")
    assert worker.ask("add", 1) == mine.number.value == 1


def test_a_place_that_is_no_folder_is_refused(folder: Path) -> None:
    """Where no file can be made, the error says where."""
    (folder / "file").touch()
    with pytest.raises(StateUnavailable, match="cannot be reached") as caught:
        joined(folder / "file")
    assert caught.value.path == (str(folder / "file"),)


def test_a_start_that_fails_half_way_holds_no_row(folder: Path) -> None:
    """What was taken before a lock could not be opened is free for the next start."""
    (folder / "row.0").touch()
    (folder / "row.1").mkdir()
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        joined(folder)
    (folder / "row.1").rmdir()
    joined(folder).close()
    assert {path.name for path in folder.glob("row.*")} == {"row.0"}


@pytest.mark.parametrize(
    ("at", "content", "message"),
    [
        (8, b"\x02", "in form 2, and this one knows form 1"),
        (0, b"something else", "not a file of tenure's counts"),
    ],
)
def test_a_file_of_another_kind_is_left_as_it_is(
    folder: Path, start: Start, at: int, content: bytes, message: str
) -> None:
    """A file that is in use, or durable, and not one that this version has written, is refused and not touched."""
    worker = start(durable=True).joined()
    path = folder / "counts"
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    before = path.read_bytes()
    for durable in (True, False):
        with pytest.raises(StateMismatch, match=message):
            joined(folder, durable=durable)
    worker.leave()
    with pytest.raises(StateMismatch, match=message):
        joined(folder, durable=True)
    assert path.read_bytes() == before


def test_a_file_that_was_cut_short_is_refused(folder: Path) -> None:
    """Nobody uses memory that is not there."""
    joined(folder, durable=True).close()
    with (folder / "counts").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(StateMismatch, match="cut short: it has 5000 bytes"):
        joined(folder, durable=True)


def test_what_an_old_version_has_left_behind_is_in_nobodys_way(folder: Path) -> None:
    """A file that is neither durable nor in use is begun anew, whoever has written it."""
    (folder / "counts").write_bytes(b"something else")
    part = joined(folder)
    assert part.number.add() == 1
    part.close()


def test_a_file_that_was_removed_is_missed(folder: Path, start: Start) -> None:
    """A worker that comes later does not count apart from those that still use the file."""
    worker = start().joined()
    (folder / "counts").unlink()
    with pytest.raises(StateUnavailable, match="removed while other workers use it"):
        joined(folder)
    assert worker.ask("add", 1) == 1
    worker.leave()
    joined(folder).close()  # the refused start has held nothing: nobody is left


def test_a_folder_that_two_machines_share_is_refused(
    folder: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that is in use, and was begun before this machine started, is another machine's."""
    worker = start().joined()
    (folder / "boot").write_text("00000000-0000-4000-8000-000000000001")
    monkeypatch.setattr(counts, "_BOOT_ID", folder / "boot")
    with pytest.raises(StateMismatch, match="another machine"):
        joined(folder)
    assert worker.ask("add", 1) == 1


def test_a_worker_that_is_stuck_while_it_joins_is_named(
    folder: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for one that does not go on; once it does, others join."""
    monkeypatch.setattr(rows, "PATIENCE", 0.1)
    holder = start().joined()
    holder.tell("hold")
    holder.answer()
    with pytest.raises(StateUnavailable, match=r"has held the lock of the shared state for 0\.1 s"):
        joined(folder)
    assert holder.ask("go on") == "let go"
    joined(folder).close()


def test_a_closed_share_refuses_to_count(folder: Path) -> None:
    """What is used too late is told so, from any thread, and reads no stale value."""
    part = joined(folder)
    assert part.number.add() == part.number.value == 1
    part.close()
    for use in (part.number.add, lambda: part.number.value):
        with pytest.raises(AlreadyClosed, match="used after its app had closed it"):
            use()
