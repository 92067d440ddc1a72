"""What a service and its keeper say: one file, and what was in it before; neither grows without end."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOG = "service.log"
LARGEST = 1024 * 1024
"""Bytes after which it begins anew: its folder may lie in memory, beside counts and arrays that need the room."""


def new_log(home: Path) -> Path:
    """Give the file, empty; what was in it is beside it."""
    log = home / LOG
    if log.exists():
        log.replace(_before(log))
    return log


def bound_log(home: Path) -> None:
    """Begin it anew once it is large, and keep the end of what was in it; all who write to it go on, as they append."""
    log = home / LOG
    with suppress(FileNotFoundError):
        if log.stat().st_size <= LARGEST:
            return
        with suppress(OSError), log.open("rb") as full:  # where there is no room, that is what is needed
            full.seek(-LARGEST, os.SEEK_END)
            _before(log).write_bytes(full.read(LARGEST))
        os.truncate(log, 0)


def _before(log: Path) -> Path:
    return log.with_suffix(".log.1")
