"""PostgreSQL and the programs that are put to the test: real processes on loopback, ended with their block."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tenure.host.locks import is_held
from tenure.host.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Generator

PROJECT = Path(__file__).parents[1]
START = 60
"""Seconds that a start may take, of four workers at once too."""
PAUSE = 0.05
KIB = 1024


class CannotTest(Exception):
    """Raised where what is to be tested does not run; the message has what it said."""


@dataclass(frozen=True)
class Ended:
    """
    How a server has ended.

    Attributes:
        seconds: From SIGTERM until it had exited, or was killed.
        status: Its exit status; None for one that did not exit in time, and was killed.
    """

    seconds: float
    status: int | None


@contextmanager
def postgres() -> Generator[tuple[Path, EmbeddedPostgres]]:
    """
    Run a PostgreSQL of its own; give a folder for whatever else is needed, and the server.

    Raises:
        CannotTest: At the end, when a process is left that uses the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="tenure-reliability-"))
    folder.chmod(0o755)  # when root runs this, PostgreSQL's user has to pass
    try:
        with EmbeddedPostgres(folder / "postgres") as server:
            yield folder, server
    finally:
        _until_unused(folder)
        shutil.rmtree(folder)


class Server:
    """
    A program under uvicorn, with its workers.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        url: The same as an address.
        log: The file with all that it writes.
    """

    def __init__(self, app: str, folder: Path, *options: str, workers: int = 1, **environment: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{app.replace(':', '-')}-{self.port}.log"
        self.count = workers
        self._options = [app, f"--port={self.port}", f"--workers={workers}", "--no-access-log", *options]
        self._shared = folder / "shared"  # with the workers of this folder, and nobody else
        self._environment = environment

    def __enter__(self) -> Self:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROSTER_", "TENURE_"))}
        self._shared.mkdir(mode=0o700, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 (a command of our own)
                [sys.executable, "-m", "uvicorn", *self._options],
                cwd=self._shared.parent,
                env={
                    **inherited,
                    "PYTHONPATH": str(PROJECT),
                    "XDG_RUNTIME_DIR": str(self._shared),
                    **self._environment,
                },
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that no worker is left, whatever becomes of the first process
            )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def until_ready(self) -> Self:
        """
        Wait until every worker has started; blocks.

        Raises:
            CannotTest: It has ended instead, or it takes longer than it may.
        """
        deadline = time.monotonic() + START
        while not self.is_ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                message = f"{self._options[0]} does not run:\n{self.log.read_text()[-4000:]}"
                raise CannotTest(message)
            time.sleep(PAUSE)
        return self

    def is_ready(self) -> bool:
        """Tell whether as many workers as there should be have started."""
        log = self.log.read_text()
        started, complete = log.count("Started server process ["), log.count("Application startup complete.")
        return complete >= started and len(self.workers()) == self.count

    def workers(self) -> list[int]:
        """Give the process numbers of the workers that live, the oldest first."""
        started = re.findall(r"Started server process \[(\d+)\]", self.log.read_text())
        return [pid for pid in map(int, started) if _lives(pid)]

    def objects(self) -> list[int]:
        """Give the process numbers of the objects that its workers share, such as a model."""
        ours = os.fsencode(self._shared)
        return [pid for pid, words in _commands() if b"tenure.owner" in words and any(ours in word for word in words)]

    def stop(self, limit: float) -> Ended:
        """End it with SIGTERM, as an init system does, and kill it when it has not exited in time; blocks."""
        begin = time.monotonic()
        self._process.terminate()
        try:
            status: int | None = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        seconds = time.monotonic() - begin
        self.__exit__()
        return Ended(seconds, status)


def memory(pid: int) -> int:
    """Give the bytes that a process has to itself, and its part of what it shares (PSS)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return KIB * int(re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[0])


def kill(server: EmbeddedPostgres) -> None:
    """Kill all processes of a PostgreSQL at once; its keeper starts another."""
    postmaster = int((server.home / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)  # so that it starts none in place of those that are killed
    backends = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (*map(int, backends), postmaster):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until_unused(folder: Path) -> None:
    deadline = time.monotonic() + START
    while any(is_held(lock) for name in ("keeper", "service") for lock in folder.rglob(name)):
        if time.monotonic() > deadline:
            message = f"a process is left that uses {folder}"
            raise CannotTest(message)
        time.sleep(PAUSE)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _commands() -> Generator[tuple[int, list[bytes]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            yield int(folder.name), (folder / "cmdline").read_bytes().split(b"\0")
