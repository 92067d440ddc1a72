"""A service that the workers of a machine share: how a worker starts it, joins it and leaves it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from signal import SIGTERM, Signals
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar

from tenure.errors import HostServiceError
from tenure.host import locks
from tenure.host.accounts import Account, myself
from tenure.host.logs import LOG, new_log
from tenure.host.reports import understand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

S = TypeVar("S", bound="Service")

SYSTEMS = frozenset({"linux", "darwin"})
LOG_LINES = 8


class Service(ABC):
    """
    A process that the workers of this machine share, and the files that it keeps in one folder.

    The first worker that acquires it starts it; others join. A keeper process, the service's parent, restarts it when
    it ends, and stops it when the last worker has released it or died. All that names the same folder is one service.
    The folder must lie on a local file system and belong to the user whom the workers run as.

    A subclass says what runs. Its methods run in the keeper, which makes its own instance: the class must be importable
    by name, and be made from the folder and `options`. An instance serves one user at a time, and its constructor
    touches no file, so that it may be made in an event loop.

    ::

        with Clock("var/clock"):          # or: async with Clock("var/clock"):
            ...

    Args:
        folder: Where the service keeps its files; made when it is missing, in mode 0700.
    """

    stop_signal: ClassVar[Signals] = SIGTERM
    """The signal that asks the service to end."""
    start_timeout: ClassVar[float] = 30.0
    """How many seconds a worker waits for a service that answers."""
    stop_timeout: ClassVar[float] = 20.0
    """How many seconds after `stop_signal` the service is killed."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._home: Path | None = None
        self._hold: locks.Lock | None = None

    @abstractmethod
    def argv(self) -> Sequence[str]:
        """Return the command that runs the service in the foreground."""

    @abstractmethod
    def probe(self) -> bool:
        """Tell whether the service answers; called by workers too, and often."""

    def locate(self) -> Path:
        """
        Make the service's folder, and return where it is; the first call in each process.

        Raises:
            HostServiceError: The folder belongs to another user.
        """
        home = self.folder.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            owner = Account(home.stat().st_uid, home.stat().st_gid).name
            message = f"{home} belongs to {owner}, and this process runs as {myself().name}"
            raise HostServiceError(message, hint=f"run as {owner}, or name another folder")
        return home

    def prepare(self) -> None:  # noqa: B027 (a service may have nothing to prepare)
        """Make ready before each start; no process of an earlier start is left by then."""

    def evict(self) -> None:  # noqa: B027 (on Linux the kernel has seen to it)
        """Ask the process of a keeper that was killed to end, where it did not end with its keeper."""

    def options(self) -> Mapping[str, object]:
        """Return what the keeper makes its instance with, beside the folder: keyword arguments that JSON can hold."""
        return {}

    def account(self) -> Account:
        """Return whom the service runs as."""
        return myself()

    def environment(self) -> Mapping[str, str]:
        """Return the environment of the service."""
        return os.environ

    @property
    def home(self) -> Path:
        """
        Where the service's files are: its folder, resolved, or the place that `locate` chose instead.

        Raises:
            HostServiceError: Nobody has located it in this process.
        """
        if self._home is None:
            message = f"the service in {self.folder} has not been started by this process"
            raise HostServiceError(message, hint="acquire it first: `async with service:`")
        return self._home

    def settle(self) -> Path:
        """Find out where the service's files are, for `home` to answer; blocks a little."""
        self._home = self.locate()
        return self._home

    def acquire(self, check: Callable[[], object] = lambda: None) -> Self:
        """
        Start the service, or join the one that runs; blocks until it answers.

        Args:
            check: Called while waiting; what it raises ends the wait, as a cancellation must.

        Raises:
            HostServiceError: It did not start, with the reason; or not within `start_timeout`; or this instance has
                acquired it already; or this system is neither Linux nor macOS.
        """
        self._refuse()
        try:
            self._join(time.monotonic() + self.start_timeout, check)
        except OSError as error:
            self.release()
            message = f"the service in {self.folder} did not start: {error}"
            raise HostServiceError(message) from error
        except BaseException:
            self.release()
            raise
        return self

    def release(self) -> None:
        """Leave the service, at once; the keeper stops it if nobody else uses it. Twice is as good as once."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.release()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        # A keeper has no event loop, and need not load anyio.
        import anyio.to_thread  # noqa: PLC0415

        start = _Start(self)
        try:
            # A limiter of its own: start-up must not wait until a full budget of threads has room.
            limiter = anyio.CapacityLimiter(1)
            return await anyio.to_thread.run_sync(start.run, abandon_on_cancel=True, limiter=limiter)
        except BaseException:
            start.give_up()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def _refuse(self) -> None:
        if sys.platform not in SYSTEMS:
            message = f"a service that workers share cannot be kept on {sys.platform}, only on Linux and macOS"
            raise HostServiceError(message, hint="run the server yourself and set its DSN instead")
        if self._hold is not None:
            message = f"the service in {self.folder} is already acquired by this instance"
            raise HostServiceError(message, hint="make one instance for each user")

    def _join(self, deadline: float, check: Callable[[], object]) -> None:
        home = self.settle()
        # Held before anyone looks for a keeper: it cannot find itself without users while this worker waits.
        self._hold = locks.wait_for(home / "users", shared=True, deadline=deadline, check=check)
        while not self._answers():
            check()
            if self._hold is None or time.monotonic() > deadline:
                raise self._late()
            self._start(deadline, check)
            time.sleep(locks.POLL)

    def _answers(self) -> bool:
        # In this order: a service whose keeper was killed may answer for an instant before it follows.
        return self._hold is not None and self.probe() and locks.is_held(self.home / "keeper")

    def _start(self, deadline: float, check: Callable[[], object]) -> None:
        turn = locks.take(self.home / "start")
        if turn is None:
            return
        try:
            if not locks.is_held(self.home / "keeper"):
                self._launch(deadline, check)
        finally:
            turn.release()

    def _launch(self, deadline: float, check: Callable[[], object]) -> None:
        listener, speaker = os.pipe()
        try:
            try:
                self._spawn(speaker)
            finally:
                os.close(speaker)
            error = understand(self._hear(listener, deadline, check))
        finally:
            os.close(listener)
        if error is not None:
            message = f"the service in {self.folder} did not start: {error.message}"
            hint = error.hint or f"the whole log is in {self.home / LOG}"
            raise type(error)(message, path=error.path or self.last_words(), hint=hint)

    def _spawn(self, speaker: int) -> None:
        kind = type(self)
        order = {
            "module": kind.__module__,
            "name": kind.__qualname__,
            "folder": str(self.home),
            "options": dict(self.options()),
            "report": speaker,
        }
        with new_log(self.home).open("ab") as output:
            keeper = subprocess.Popen(  # noqa: S603 (this interpreter, and what this class made)
                [sys.executable, "-P", "-m", "tenure.host.keeper", json.dumps(order)],
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(speaker,),
            )
        keeper.wait()  # it forks at once: the keeper is nobody's child, and leaves no zombie in a worker

    def _hear(self, listener: int, deadline: float, check: Callable[[], object]) -> bytes:
        word = b""
        while time.monotonic() < deadline:
            check()
            if select.select([listener], [], [], locks.POLL)[0]:
                part = os.read(listener, 65536)
                if not part:
                    return word
                word += part
        raise self._late()

    def _late(self) -> HostServiceError:
        message = f"the service in {self.folder} did not answer within {self.start_timeout:g} s"
        return HostServiceError(message, path=self.last_words(), hint=f"the whole log is in {self.home / LOG}")

    def last_words(self) -> list[str]:
        """Return the end of the log of the service and its keeper, for an error to show."""
        try:
            return (self.home / LOG).read_text(errors="replace").splitlines()[-LOG_LINES:]
        except FileNotFoundError:
            return []


class _Start(Generic[S]):
    """A service that is acquired in a thread, for a task that may be cancelled meanwhile, by whatever means."""

    def __init__(self, service: S) -> None:
        self._service = service
        self._turn = threading.Lock()
        self._is_given_up = self._is_acquired = False

    def run(self) -> S:
        """Acquire it, unless that is given up."""
        self._service.acquire(self._check)
        with self._turn:
            self._is_acquired = not self._is_given_up
            if self._is_given_up:
                self._service.release()
        return self._service

    def give_up(self) -> None:
        """Hold nothing, as soon as the thread has noticed."""
        with self._turn:
            self._is_given_up = True
            if self._is_acquired:
                self._service.release()

    def _check(self) -> None:
        if self._is_given_up:
            message = f"the start of the service in {self._service.folder} was called off"
            raise HostServiceError(message)
