"""The command, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

TENURE = Path(sys.executable).with_name("tenure")
ROSTER = Path(__file__).parents[2] / "examples" / "roster"


CHANGING = {"COLUMNS", "FORCE_COLOR", "NO_COLOR", "TENURE_DEPLOYMENT", "TENURE_STATE"}
"""What in an environment changes what a command says."""


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """Give this process's environment without what would change how a command looks."""
    return {**{name: value for name, value in os.environ.items() if name not in CHANGING}, **more}


def tenure(*words: str, folder: Path, variables: Mapping[str, str] | None = None) -> Done:
    """Run the command in a folder until it ends."""
    done = subprocess.run(
        [str(TENURE), *words],
        cwd=folder,
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
