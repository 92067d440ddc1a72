"""Where and on what a run was: numbers of another machine are not to be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[1]
ALWAYS = ("fastapi", "starlette", "pydantic", "uvloop", "tenure")


def about(packages: Iterable[str], mode: str) -> dict[str, Any]:
    """Describe the machine, the versions of what is measured, and the state of this repository."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": mode,
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "cpu": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 2),
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {package: version(package) for package in sorted({*ALWAYS, *packages})},
        "git": {"revision": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--", "src"))},
    }


def processor() -> str:
    """Give the processor's name, as the kernel has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def git(*arguments: str) -> str:
    """Ask git about this repository; a copy without its history answers nothing."""
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()  # noqa: S603
