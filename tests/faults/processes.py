"""What the kernel knows of a process, and the wait until something is so."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests import waiting
from tests.faults.serving import PATIENCE

until = partial(waiting.until, seconds=PATIENCE)
"""The same, with the patience that a start anew takes."""


def gone(process: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return b") Z" in Path(f"/proc/{process}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the latter between open and read
        return True


def parent(process: int) -> int:
    """Give the parent of a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
