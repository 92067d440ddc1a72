"""Machines of a test: each a real `uvicorn --workers 4`, on a port and with a runtime folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PROJECT = Path(__file__).parents[3]
APP = "tests.faults.acceptance.service:app"
WORKERS = 4
PATIENCE = 60.0
"""Seconds after which a wait of a test has failed."""
GONE = (OSError, HTTPException)
"""What a client meets whose worker was killed."""

_ADDRESS = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")


def until(condition: Callable[[], Any], told: Callable[[], object] = lambda: "it has not become so") -> Any:
    """Wait until something is so, and give what it then is; fail when it never is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{told()}, within {PATIENCE:g} s")
        time.sleep(0.01)
    return found


class Machine:
    """
    Four workers of uvicorn that serve an app.

    Attributes:
        folder: What its workers share, and no other machine.
        greatest: The greatest value that any of its workers has answered.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.greatest = 0
        self._log = folder / "uvicorn.log"
        options = ["--workers", str(WORKERS), "--port", "0", "--timeout-keep-alive", "600", "--no-access-log"]
        with self._log.open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", APP, *options],
                cwd=PROJECT,
                env={**os.environ, **environment, "XDG_RUNTIME_DIR": str(folder)},
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What its workers and their parent have said so far."""
        return self._log.read_text()

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(until(lambda: _ADDRESS.search(self.log), lambda: f"it serves nothing:\n{self.log}")[1])

    def stop(self) -> None:
        """End it in good order, or its workers one by one, and fail."""
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for pid in (*children(self.server.pid), self.server.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.server.wait()
            pytest.fail(f"it did not end:\n{self.log}")


def children(pid: int) -> list[int]:
    """Tell which processes a process has started."""
    words = ["ps", "-o", "pid=", "--ppid", str(pid)]
    return [int(word) for word in subprocess.run(words, check=False, capture_output=True).stdout.split()]


class Connection:
    """
    A connection to one worker of a machine.

    Attributes:
        pid: Which worker that is.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._http = HTTPConnection("127.0.0.1", machine.port, timeout=PATIENCE)
        self._http.connect()
        self._http.auto_open = 0  # it would lead to another worker
        try:
            self.pid = int(self.ask("/pid"))
        except BaseException:
            self.close()
            raise

    def ask(self, path: str) -> Any:
        """Send a request, and give what it is answered with; raises one of `GONE` when the worker was killed."""
        self._http.request("POST", path)
        response = self._http.getresponse()
        body = response.read()
        assert response.status == 200, f"{response.status} {body!r}\n{self.machine.log}"
        return json.loads(body)

    def lines(self, path: str) -> Iterator[bytes]:
        """Send a request, and give each line of its answer as it comes, until it is cut."""
        self._http.request("POST", path)
        yield from self._http.getresponse()

    def cut(self) -> None:
        """End it while another thread waits for what comes."""
        self._http.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self._http.close()


@contextmanager
def connected(*machines: Machine) -> Generator[list[Connection]]:
    """Give a connection to each worker of the machines, once all of them answer."""
    with ExitStack() as stack:
        yield [connection for machine in machines for connection in _to_each_worker(machine, stack)]


def _to_each_worker(machine: Machine, stack: ExitStack) -> list[Connection]:
    found: dict[int, Connection] = {}

    def all_found() -> bool:
        assert machine.server.poll() is None, machine.log
        with suppress(*GONE):
            connection = Connection(machine)
            stack.callback(connection.close)  # kept open, so that the next one leads to another worker more likely
            found.setdefault(connection.pid, connection)
        return len(found) == WORKERS

    until(all_found, lambda: f"{len(found)} workers answer:\n{machine.log}")
    return list(found.values())


class Pair:
    """
    Two machines that share state.

    Attributes:
        url: Where they share it.
        work: The database in which the periodic job writes.
    """

    def __init__(self, folder: Path, url: str, work: str) -> None:
        self.url = url
        self.work = work
        self._folder = folder
        deployment = f"test-{uuid4().hex}"
        environment = {"TENURE_STATE": url, "TENURE_DEPLOYMENT": deployment, "WORK": work, "NOTES": str(folder)}
        self.machines = [Machine(folder / name, environment) for name in ("one", "two")]

    @property
    def log(self) -> str:
        """What all workers have said so far."""
        return "".join(machine.log for machine in self.machines)

    def allow(self, what: str) -> None:
        """Let those go on that wait for it."""
        (self._folder / what).touch()

    def noted(self, what: str) -> list[tuple[int, float]]:
        """Tell which processes have noted something, and when."""
        notes = self._folder / "notes"
        lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
        return [(int(pid), float(at)) for noted, pid, at in lines if noted == what]

    def until_one_has_begun(self) -> int:
        """Wait until one process does what is done once, and all others wait for that; which process does."""
        others = len(self.machines) * WORKERS - 1
        until(
            lambda: len(self.noted("began")) == 1 and self.log.count("migrated is made by another process") == others,
            lambda: f"they do not wait for one:\n{self.log}",
        )
        return self.noted("began")[0][0]


@contextmanager
def running(url: str, work: str) -> Generator[Pair]:
    """Run two machines that share state at an address, and whose job writes to a database."""
    with TemporaryDirectory(prefix="tenure-test-") as folder, ExitStack() as stack:
        with psycopg.connect(work) as connection:
            connection.execute("DROP TABLE IF EXISTS work")
        pair = Pair(Path(folder), url, work)
        for machine in pair.machines:
            stack.callback(machine.stop)
        stack.callback(pair.allow, "migrate")  # uvicorn ends no worker that is still starting
        yield pair
