"""A call of an object in another process, there and back with 4 KB, beside what a program would use in its place."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.calls.row import Found
from benchmarks.telling import told_by

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENDERS = {
    "tenure": "with_tenure",
    "multiprocessing.managers": "with_managers",
    "pyzmq": "with_zmq",
    "grpc": "with_grpc",
}
"""Modules, by what they have to do with."""
PACKAGES = ("grpcio", "msgpack", "pyzmq")


@dataclass(frozen=True)
class Plan:
    """
    How much is measured, as it is told to the process that does.

    Attributes:
        rounds: How many rounds there are.
        calls: How many calls each contender makes in one.
        contenders: Who takes part.
    """

    rounds: int
    calls: int
    contenders: tuple[str, ...] = tuple(CONTENDERS)

    def written(self) -> str:
        """Write it as an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, written: str) -> Plan:
        """Read what `written` gave."""
        return cls(**json.loads(written))


def measure(advance: Callable[[str], object], plan: Plan) -> list[Found]:
    """
    Measure in a process of its own, with a folder and a deployment of its own.

    Raises:
        CalledProcessError: It has failed; why is on the standard error.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:  # noqa: PTH112, S108
        command = [sys.executable, "-m", __name__, plan.written(), folder]
        settings = {"XDG_RUNTIME_DIR": folder, "TENURE_DEPLOYMENT": "benchmark"}
        return [Found(**row) for row in told_by(command, settings, advance)]
