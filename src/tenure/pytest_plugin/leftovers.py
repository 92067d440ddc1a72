"""What the deployments of tests leave behind on this machine, and how it is removed."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tenure.host import locks
from tenure.state.stores import places

if TYPE_CHECKING:
    from pathlib import Path


def clean(suffix: str, *, patience: float = 0) -> None:
    """
    Remove the folders of deployments whose names end so, or go on as those of single tests do.

    One that a living process uses is left for as many seconds to that process, and then for good.
    """
    deadline = time.monotonic() + patience
    for folder in places.named(f"*{suffix}", f"*{suffix}-*"):
        while _is_used(folder) and time.monotonic() < deadline:
            time.sleep(locks.POLL)
        if not _is_used(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_used(folder: Path) -> bool:
    """Tell whether somebody holds a lock in it: whoever shares something holds one, and a service's keeper another."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink() and _is_locked(path):
                return True
    return False


def _is_locked(path: Path) -> bool:
    lock = locks.take(path)
    if lock is not None:
        lock.release()
    return lock is None
