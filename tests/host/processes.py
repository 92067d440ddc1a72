"""Workers that are real processes, and what can be seen of processes from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest

from tenure.host.locks import is_held

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

PATIENCE = 30.0
SERVICE_LOCKS = ("keeper", "service")

WORKER = """
import sys
from importlib import import_module
module, name, folder = sys.argv[1:]
with getattr(import_module(module), name)(folder) as service:
    print(service.address(), flush=True)
    sys.stdin.read()
"""


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it never is."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it has not become so in time")
        time.sleep(0.01)


def parent(pid: int) -> int:
    """Tell whose child a process is."""
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], check=True, capture_output=True).stdout)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has reaped yet does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    return bool(state) and not state.startswith("Z")


class Worker:
    """A process that uses a service until it is told to leave, or killed."""

    def __init__(
        self, kind: type | FunctionType, folder: Path, *, executable: str = sys.executable, user: int | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [executable, "-c", WORKER, kind.__module__, kind.__qualname__, str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(readable(sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )

    def address(self) -> str:
        """Wait until the worker has joined; where the service is."""
        line = cast("IO[str]", self.process.stdout).readline().strip()
        if not line:
            pytest.fail(cast("IO[str]", self.process.stderr).read())
        return line

    def leave(self) -> None:
        """Let the worker end in good order."""
        self.process.communicate(timeout=PATIENCE)

    def kill(self) -> None:
        """End the worker as nobody can expect."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


def readable(entries: list[str]) -> list[str]:
    """Leave out what belongs to this interpreter alone, for another of the same version may run the worker."""
    return [entry for entry in entries if not Path(entry).is_relative_to(sys.base_prefix) and entry]


def gone(folder: Path) -> bool:
    """Tell whether neither a keeper nor a service is left in a folder."""
    home = (folder / "home").resolve() if (folder / "home").is_symlink() else folder
    return not any((home / name).exists() and is_held(home / name) for name in SERVICE_LOCKS)
