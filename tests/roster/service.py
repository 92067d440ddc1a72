"""roster as real processes, under the servers that people run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import pytest

from tenure.host.locks import is_held
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

PROJECT = Path(__file__).parents[2] / "examples" / "roster"
PROGRAMS = Path(sys.executable).parent
DEADLINE = 60
"""Seconds that a start or an end may take on a busy machine."""
SERVERS = {
    "fastapi-dev": "fastapi dev --port {port}",
    "fastapi-run": "fastapi run --host 127.0.0.1 --port {port}",
    "uvicorn": "uvicorn roster.main:app --port {port}",
    "uvicorn-workers": "uvicorn roster.main:app --port {port} --workers 2",
    "granian": "granian --interface asgi --port {port} roster.main:app",
    "gunicorn": "gunicorn -k uvicorn_worker.UvicornWorker --bind 127.0.0.1:{port} roster.main:app",
}


@contextmanager
def reachable_folder() -> Generator[Path]:
    """Give a folder that PostgreSQL's user can reach when root runs the tests, and remove it when no server is left."""
    folder = Path(tempfile.mkdtemp(prefix="roster-test-"))
    folder.chmod(0o755)
    yield folder
    deadline = time.monotonic() + DEADLINE
    while any(is_held(lock) for name in ("keeper", "service") for lock in folder.rglob(name)):
        if time.monotonic() > deadline:
            pytest.fail(f"a server is left in {folder}")
        time.sleep(0.05)
    shutil.rmtree(folder)


class Service:
    """One server process, which is ended with the block."""

    def __init__(self, folder: Path, server: str = "uvicorn", *, port: int | None = None, **settings: str) -> None:
        self._settings = settings
        self._log = folder / f"{server}-{time.monotonic_ns()}.log"
        self._server = server
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        program, *arguments = SERVERS[self._server].format(port=self.port).split()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROSTER_", "TENURE_"))}
        shared = self.folder / "shared"  # with those of this folder, and nobody else
        shared.mkdir(mode=0o700, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / program, *arguments],
                cwd=PROJECT if program == "fastapi" else self.folder,  # where its entry point is written down
                env={**inherited, "XDG_RUNTIME_DIR": str(shared), **self._settings},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text()

    def until_ready(self) -> Self:
        """Wait until it answers."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                pytest.fail(f"it ended with status {self._process.returncode}:\n{self.errors}")
            try:
                httpx.get(f"{self.url}/openapi.json").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return self
        pytest.fail(f"it did not answer:\n{self.errors}")

    def until_logged(self, text: str, times: int = 1) -> Self:
        """Wait until it has logged a text so many times."""
        deadline = time.monotonic() + DEADLINE
        while self.errors.count(text) < times:
            if time.monotonic() > deadline:
                pytest.fail(f"it did not log {text!r} {times} times:\n{self.errors}")
            time.sleep(0.05)
        return self

    def until_ended(self) -> int:
        """Wait until it has ended by itself, and give its status."""
        try:
            return self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"it did not end:\n{self.errors}")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """End it as an init system does, or as said, and give its status."""
        self._process.send_signal(by)
        return self.until_ended()


@contextmanager
def two_workers(**settings: str) -> Generator[tuple[Service, Service]]:
    """Run two workers of one deployment, each on a port of its own, so that a test can say which it asks."""
    with reachable_folder() as folder, Service(folder, **settings) as one, Service(folder, **settings) as other:
        yield one.until_ready(), other.until_ready()
