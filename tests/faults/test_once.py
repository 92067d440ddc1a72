"""What is done once for all workers of a machine, while it fails and while they are killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.errors import StartFailed
from tests.state.sharers import Start, logged, notes, starting, until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give what starts a worker; they are killed in the end."""
    with starting(tmp_path) as start:
        yield start


def runner(folder: Path) -> int:
    """Tell which process did what was done last."""
    return int((folder / "notes").read_text().split()[-1])


def test_its_failure_fails_every_start(tmp_path: Path, start: Start) -> None:
    """Of eight workers one runs it and fails, and the others fail with its error; the next start tries anew."""
    workers = [start("failing") for _ in range(8)]
    until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("waited for") == 7)
    (tmp_path / "fail").touch()
    told = []
    for worker in workers:
        with pytest.raises(StartFailed, match=r"`failing` did not start: .*RuntimeError: no such table") as failed:
            worker.value()
        told.append("which ran it for all" in failed.value.message)
    assert (told.count(True), notes(tmp_path)) == (7, ["failing"])

    (tmp_path / "mended").touch()
    assert start("failing").value() is None
    assert notes(tmp_path) == ["failing", "failing"]


def test_another_goes_on_when_the_one_that_runs_it_is_killed(tmp_path: Path, start: Start) -> None:
    """A worker that is killed half-way is no failure: one that waits runs it."""
    workers = {worker.pid: worker for worker in (start("migrated") for _ in range(4))}
    until(lambda: notes(tmp_path) == ["migrated"])
    workers.pop(runner(tmp_path)).kill()
    until(lambda: notes(tmp_path) == ["migrated", "migrated"])
    (tmp_path / "migrate").touch()
    assert {worker.value().by for worker in workers.values()} == {runner(tmp_path)}


def test_a_value_outlives_the_worker_that_made_it(tmp_path: Path, start: Start) -> None:
    """What a function has made is data: it stands when its process is killed, as long as any is left."""
    (tmp_path / "migrate").touch()
    one = start("migrated")
    made = one.value()
    other = start("migrated")
    other.value()
    one.kill()
    assert start("migrated").value() == made
    assert notes(tmp_path) == ["migrated"]


def test_another_runs_a_generator_when_its_process_is_killed(tmp_path: Path, start: Start) -> None:
    """One of those that are left runs it; who starts then has the new value, and the log says that others have not."""
    (tmp_path / "migrate").touch()
    one = start("server")
    one.value()
    others = {worker.pid: worker for worker in (start("server") for _ in range(3))}
    assert {worker.value() for worker in others.values()} == {f"42 {one.pid}"}
    one.kill()
    until(lambda: notes(tmp_path) == ["migrated", "opened", "opened"])
    until(logged(tmp_path, "server has another value now that it was run anew"))
    assert start("server").value() == f"42 {runner(tmp_path)}"
    for worker in others.values():
        worker.tell_to_leave()


def test_a_generator_is_run_by_who_starts_after_the_kill_of_a_starter(tmp_path: Path, start: Start) -> None:
    """A worker that is killed while it opens the generator is followed by one that waits."""
    workers = {worker.pid: worker for worker in (start("fragile") for _ in range(3))}
    until(lambda: notes(tmp_path) == ["opening"])
    workers.pop(runner(tmp_path)).kill()
    until(lambda: notes(tmp_path) == ["opening", "opening"])
    (tmp_path / "open").touch()
    assert [worker.value() for worker in workers.values()] == [1, 1]


def test_no_two_run_it_at_once(tmp_path: Path, start: Start) -> None:
    """While workers come, and whoever runs the generator is killed, time and again, one process has it open."""
    workers = {worker.pid: worker for worker in (start("only") for _ in range(3))}
    for kills in range(15):
        until(lambda: len(notes(tmp_path)) == kills + 1)  # noqa: B023 (called at once)
        comer = start("only")
        workers[comer.pid] = comer
        workers.pop(runner(tmp_path)).kill()
    until(lambda: len(notes(tmp_path)) == 16)
    assert {worker.value() for worker in workers.values()} == {"always the same"}
    assert set(notes(tmp_path)) == {"opened"}


def test_a_generator_that_breaks_is_run_anew(tmp_path: Path, start: Start) -> None:
    """It fails while it is open, and again when it is opened anew; the workers try again, and stay up."""
    (tmp_path / "open").touch()
    workers = [start("fragile") for _ in range(2)]
    assert [worker.value() for worker in workers] == [1, 1]
    (tmp_path / "broken").touch()
    (tmp_path / "break").touch()
    until(lambda: notes(tmp_path) == ["opening", "opening", "broken", "opening"])
    assert logged(tmp_path, "fragile failed where it was run for all workers")()
    workers.append(start("fragile"))
    assert workers[-1].value() == 1
    for worker in workers:
        worker.tell_to_leave()
    for worker in workers:
        worker.gone()


def test_a_child_of_a_killed_worker_holds_nothing(tmp_path: Path, start: Start) -> None:
    """A worker's forked child inherits its open files; when the worker is killed, its turn is over all the same."""
    (tmp_path / "open").touch()
    one = start("fragile")
    one.value()
    one.fork()
    other = start("fragile")
    other.value()
    one.kill()
    until(lambda: notes(tmp_path) == ["opening", "opening"])


def test_a_generator_that_will_not_end_is_left_behind(tmp_path: Path, start: Start) -> None:
    """One whose close hangs, and swallows cancellation, does not keep its worker from leaving."""
    worker = start("stubborn")
    worker.value()
    worker.leave()
    assert logged(tmp_path, "`stubborn` did not end after it was cancelled, and was left behind")()
    assert start("stubborn").value() == 1
