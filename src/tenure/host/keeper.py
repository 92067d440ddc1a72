"""The parent of a service: starts it, restarts it when it ends, and goes when the last worker has gone."""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from operator import attrgetter
from typing import TYPE_CHECKING

from tenure.errors import HostServiceError
from tenure.host import locks
from tenure.host.accounts import switch
from tenure.host.logs import bound_log
from tenure.host.reports import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tenure.host.supervisor import Service

logger = logging.getLogger("tenure.host.keeper")

LOOK = 0.2
"""Seconds between two looks for workers; the end of the service itself is an event."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds between the end of the service and its restart: doubled each time, and anew once it has lasted `STEADY`."""
STEADY = 60.0
HANDOVER = 5.0
"""Seconds that a keeper waits for its lock while others look whether it is held."""
PR_SET_PDEATHSIG = 1


class Keeper:
    """Keeps one service until nobody uses it, it is told to stop, or its folder is removed."""

    def __init__(self, service: Service, lock: locks.Lock, report: Report) -> None:
        self._service = service
        self._lock = lock
        self._report = report
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0
        self._pause = SHORTEST_PAUSE
        self._told = False
        self._nobody: locks.Lock | None = None
        self._events = self._listen()

    def keep(self) -> None:
        """Serve until there is nothing left to do; a service that never answered is an error that is raised."""
        try:
            while not self._finished():
                self._look()
                bound_log(self._service.home)
                self._wait()
        finally:
            self._stop()

    def _listen(self) -> int:
        events, alarm = os.pipe()
        os.set_blocking(events, False)
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a worker's thread may have blocked them, and that is inherited
        return events

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._told = self._told or number != signal.SIGCHLD

    def _wait(self) -> None:
        seconds = LOOK if self._report.given else locks.POLL
        if self._child is None:
            seconds = min(seconds, max(0.0, self._due - time.monotonic()))
        if select.select([self._events], [], [], seconds)[0]:
            os.read(self._events, 512)

    def _finished(self) -> bool:
        if self._told or not self._lock.in_place():
            return True
        # Kept once it is taken: newcomers wait until the service has ended, then start another.
        self._nobody = locks.take(self._service.home / "users")
        return self._nobody is not None

    def _look(self) -> None:
        if self._child is None:
            self._restart()
        elif self._child.poll() is not None:
            self._bury(self._child)
        elif not self._report.given and self._service.probe():
            self._report.ready()

    def _restart(self) -> None:
        if time.monotonic() < self._due:
            return
        try:
            self._child = self._spawn()
        except (OSError, HostServiceError):
            if not self._report.given:
                raise
            logger.exception("the service could not be restarted")
            self._back_off()
        self._started = time.monotonic()

    def _bury(self, child: subprocess.Popen[bytes]) -> None:
        message = f"it ended by itself with status {child.returncode}"
        if not self._report.given:
            raise HostServiceError(message, path=self._service.last_words())
        logger.error("%s", message)
        self._child = None
        if time.monotonic() - self._started > STEADY:
            self._pause = SHORTEST_PAUSE
        self._back_off()

    def _back_off(self) -> None:
        self._due = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _spawn(self) -> subprocess.Popen[bytes]:
        vacancy = self._vacancy()
        try:
            self._service.prepare()
            return subprocess.Popen(  # noqa: S603 (what the service's class says)
                self._service.argv(),
                cwd="/",
                env=self._service.environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(vacancy.descriptor,),  # held by the service and its children, so it tells when all have ended
                preexec_fn=dies_with_parent(self._service.stop_signal),  # noqa: PLW1509 (the keeper has one thread)
                **switch(self._service.account()),
            )
        finally:
            vacancy.release()

    def _vacancy(self) -> locks.Lock:
        path = self._service.home / "service"
        vacancy = locks.take(path)
        if vacancy is None:
            self._service.evict()
            vacancy = locks.wait_for(path, deadline=time.monotonic() + self._service.stop_timeout)
        if vacancy is None:
            message = "a process of an earlier start has not ended"
            raise HostServiceError(message, hint=f"end the process that has {path} open")
        return vacancy

    def _stop(self) -> None:
        if self._child is None:
            return
        self._child.send_signal(self._service.stop_signal)
        try:
            self._child.wait(self._service.stop_timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def dies_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child must call for the kernel to signal it when its parent dies; only Linux has it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    keeper = os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != keeper:  # it died before the kernel knew
            os._exit(1)

    return arm


def keep(service: Service, report: Report) -> None:
    """Keep a service, unless another keeper does."""
    lock = locks.wait_for(service.settle() / "keeper", deadline=time.monotonic() + HANDOVER)
    if lock is None:
        report.ready()
        return
    Keeper(service, lock, report).keep()


def main() -> None:
    """Leave the worker that started this process, and keep the service that its one argument describes."""
    if os.fork():
        os._exit(0)
    logging.basicConfig(format="%(asctime)s keeper: %(message)s", level=logging.INFO)
    order = json.loads(sys.argv[1])
    report = Report(order["report"])
    try:
        kind = attrgetter(order["name"])(importlib.import_module(order["module"]))
        keep(kind(order["folder"], **order["options"]), report)
    except Exception as error:
        logger.exception("the keeper ends")
        report.failed(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
