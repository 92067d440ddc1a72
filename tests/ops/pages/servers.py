"""Real servers for the page to be read from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PROJECT = Path(__file__).parents[3]
DEADLINE = 40
"""Seconds that a start, an end or a change may take on a busy machine."""

# A worker that a test stops is to stay; but a server whose worker is killed before it has answered does nothing else
# for that long.
WORKERS = f"--workers {{}} --timeout-worker-healthcheck {DEADLINE - 10}"


class Server:
    """uvicorn with an app of this folder, with a place of its own for what workers share; it ends with the block."""

    def __init__(self, app: str, *, workers: int = 1, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._app = app
        self._workers = workers
        self._environment = environment

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="page-"))
        self._folder.chmod(0o700)
        self.start()
        return self

    def start(self) -> None:
        """Start it, at the port that it had before if it is not the first time."""
        command = [sys.executable, "-m", "uvicorn", f"tests.ops.pages.{self._app}:app", "--port", str(self.port)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
        shared = {"XDG_RUNTIME_DIR": str(self._folder), "FASTAPI_ENV": "development"}
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [*command, *(WORKERS.format(self._workers).split() if self._workers > 1 else [])],
            cwd=PROJECT,
            env={**inherited, **shared, **self._environment},
            stdout=self._log,
            stderr=self._log,
        )
        self.until(lambda told: len(told["workers"]) == self._workers)

    def stop(self) -> None:
        """End it, and wait until it has."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)  # what lives beside the workers takes its own files away

    def told(self) -> dict[str, Any]:
        """What the app tells of all of its workers."""
        told: dict[str, Any] = httpx.get(f"{self.url}/ops/workers.json").raise_for_status().json()
        return told

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until what the app tells is as it should be."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                if condition(told := self.told()):
                    return told
            except (httpx.TransportError, httpx.HTTPStatusError):
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        return pytest.fail(f"{self._app} is not as it should be:\n{(self._folder / 'log').read_text()[-4000:]}")
