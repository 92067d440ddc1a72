"""A service that workers share: one for all, kept while anyone uses it, gone with the last, however they end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import anyio
import pytest

from processes import Worker, alive, gone, parent, until
from services import Answering, Broken, Deaf, Endless, Slow, Talkative, Unprepared
from tenure.errors import HostServiceError
from tenure.host import Service
from tenure.host.logs import LARGEST


def test_eight_starters_at_once_get_one_service(folder: Path, workers: list[Worker]) -> None:
    """Processes that start at the same moment find the same service, and it stays while any of them does."""
    workers += [Worker(Answering, folder) for _ in range(8)]
    assert {worker.address() for worker in workers} == {str(folder / "socket")}
    with Answering(folder) as service:
        first = service.pid()
        for worker in workers:
            worker.kill()
        assert service.pid() == first
        assert alive(first)
    until(lambda: not alive(first))


def test_the_keeper_is_nobodys_child(folder: Path) -> None:
    """A worker has no child to reap: the keeper belongs to no worker."""
    with Answering(folder) as service:
        assert os.getpid() not in {parent(service.pid()), parent(parent(service.pid()))}


def test_a_service_ends_with_its_last_worker(folder: Path) -> None:
    """One that leaves does not disturb another; the last takes keeper and service along."""
    with Answering(folder) as service:
        pid = service.pid()
        with Answering(folder) as other:
            assert other.pid() == pid
        assert service.pid() == pid
    until(lambda: gone(folder))
    assert not alive(pid)


def test_a_service_that_dies_is_restarted(folder: Path) -> None:
    """A killed service comes back by itself, again and again, at the same address."""
    with Answering(folder) as service:
        seen = {service.pid()}
        for _ in range(3):
            os.kill(service.pid(), signal.SIGKILL)
            until(service.probe)
            seen.add(service.pid())
        assert len(seen) == 4


def test_a_service_dies_with_its_keeper(folder: Path) -> None:
    """A killed keeper takes the service along, and the next worker starts both anew."""
    with Answering(folder) as service:
        pid = service.pid()
        keeper = parent(pid)
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not alive(keeper))
        with Answering(folder) as other:
            assert other.pid() != pid
            assert not alive(pid)


def test_a_keeper_stops_its_service_when_it_is_told_to(folder: Path) -> None:
    """SIGTERM to the keeper ends the service in good order, although a worker still uses it."""
    with Answering(folder) as service:
        pid = service.pid()
        os.kill(parent(pid), signal.SIGTERM)
        until(lambda: gone(folder))
        assert not alive(pid)


def test_a_service_that_will_not_end_is_killed(folder: Path) -> None:
    """A service that ignores the request to end is killed after its time to stop."""
    with Deaf(folder) as service:
        pid = service.pid()
    until(lambda: not alive(pid))


def test_a_service_whose_folder_is_removed_ends(folder: Path) -> None:
    """Nobody could find the service any more, so its keeper stops it, though a worker still holds it."""
    with Answering(folder) as service:
        pid = service.pid()
        shutil.rmtree(folder)
        until(lambda: not alive(pid))


def test_a_log_does_not_grow_without_end(folder: Path) -> None:
    """However much a service says: what is kept is what it says now, and the end of what it said before."""
    with Talkative(folder) as service:
        log, before = folder / "service.log", folder / "service.log.1"
        for _ in range(20):
            pid = service.pid()
        until(lambda: log.stat().st_size <= LARGEST)
        assert before.stat().st_size <= LARGEST
        assert before.read_text().endswith(f"said by {pid}\n")


def test_a_service_that_cannot_run_is_said_at_once(folder: Path) -> None:
    """The starter learns how the service ended, what it said, and where the log is."""
    with pytest.raises(HostServiceError) as caught:
        Broken(folder).acquire()
    assert caught.value.message == f"the service in {folder} did not start: it ended by itself with status 1"
    assert caught.value.path == ("the disk is on fire",)
    assert caught.value.hint == f"the whole log is in {folder / 'service.log'}"


def test_a_keeper_that_cannot_prepare_says_why(folder: Path) -> None:
    """An unexpected error in the keeper reaches the starter by its name, and the log keeps its traceback."""
    with pytest.raises(HostServiceError) as caught:
        Unprepared(folder).acquire()
    assert caught.value.message == f"the service in {folder} did not start: ArithmeticError: no space left"
    assert caught.value.path[-1] == "ArithmeticError: no space left"


def test_a_keeper_that_cannot_find_its_class_says_so(folder: Path) -> None:
    """A class that only this process knows cannot be kept by another, and the error names it."""
    made_here = type("MadeHere", (Answering,), {"__module__": "services"})
    with pytest.raises(HostServiceError, match="module 'services' has no attribute 'MadeHere'"):
        made_here(folder).acquire()


def test_three_starters_of_a_broken_service_all_learn_why(folder: Path) -> None:
    """Starters at once each get the reason, and leave no process behind."""
    reasons: list[str] = []

    def start() -> None:
        try:
            Broken(folder).acquire()
        except HostServiceError as error:
            reasons.append(error.message)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons == [f"the service in {folder} did not start: it ended by itself with status 1"] * 3


def test_a_service_that_never_answers_has_a_deadline(folder: Path) -> None:
    """The starter gives up after the time to start, with the end of the log, and the keeper gives up with it."""
    with pytest.raises(HostServiceError) as caught:
        Slow(folder).acquire()
    assert caught.value.message == f"the service in {folder} did not answer within 6 s"
    assert caught.value.path == ("still loading",)
    until(lambda: gone(folder))


def test_a_cancelled_start_is_given_up(folder: Path) -> None:
    """Cancelling an asynchronous start ends the wait at once, and leaves nothing running."""

    async def start() -> None:
        with anyio.move_on_after(1) as patience:
            async with Endless(folder):
                pytest.fail("it cannot have answered")
        assert patience.cancelled_caught

    anyio.run(start)
    until(lambda: gone(folder))


def test_the_event_loop_runs_while_a_service_starts(folder: Path) -> None:
    """Starting and leaving happen beside the loop: other tasks go on meanwhile."""
    steps: list[str] = []

    async def walk() -> None:
        while True:
            steps.append("step")
            await anyio.sleep(0.01)

    async def start() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(walk)
            async with Answering(folder):
                group.cancel_scope.cancel()
        assert len(steps) > 5

    anyio.run(start)


def test_an_instance_serves_one_user(folder: Path) -> None:
    """Acquiring twice is refused with the cure, and does not harm the first; releasing twice is nothing."""
    with Answering(folder) as service:
        with pytest.raises(HostServiceError, match="make one instance for each user"):
            service.acquire()
        assert service.probe()
    service.release()
    with service:
        assert service.probe()


def test_an_instance_that_was_never_started_knows_no_home(folder: Path) -> None:
    """Asking for the files of a service that was not started says what to do first."""
    with pytest.raises(HostServiceError, match="acquire it first"):
        Answering(folder).address()


def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    """Workers must own the folder that they share; the error names owner and user, and nothing is written."""
    if os.geteuid() == 0:
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    theirs = folder if os.geteuid() == 0 else Path("/usr")
    before = set(theirs.iterdir())
    with pytest.raises(HostServiceError, match=f"{theirs} belongs to .*, and this process runs as "):
        Answering(theirs).acquire()
    assert set(theirs.iterdir()) == before


def test_a_folder_that_cannot_be_made_is_said(folder: Path) -> None:
    """A path through a file is an error of the service, with the system's reason."""
    folder.write_text("")
    with pytest.raises(HostServiceError, match=r"did not start: .*Not a directory"):
        Answering(folder / "below").acquire()


def test_other_systems_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no keeper can work, the error says what to do instead, and nothing is written."""
    with monkeypatch.context() as other:
        other.setattr(sys, "platform", "win32")
        with pytest.raises(HostServiceError, match="set its DSN instead"):
            Answering(folder).acquire()
    assert not folder.exists()


def test_a_service_that_says_nothing_of_what_runs_is_no_service(folder: Path) -> None:
    """The base class is a contract: it cannot be made."""
    with pytest.raises(TypeError, match="abstract"):
        Service(folder)  # type: ignore[abstract]
