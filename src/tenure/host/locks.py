"""Locks that the kernel drops however their holder dies: the only way in which this package asks who is alive."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL = 0.01
"""Seconds between two looks at something that has no event to wait for."""


class Lock:
    """
    A `flock`, held through one open file.

    It ends when every process that has the open file has closed it or died, so a process that inherits the file holds
    the lock too.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.descriptor = descriptor

    def release(self) -> None:
        """Close this process's hold; processes that inherited the file keep theirs."""
        os.close(self.descriptor)

    def in_place(self) -> bool:
        """Tell whether others would still meet this lock, or somebody has removed its file."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False


def take(path: Path, *, shared: bool = False) -> Lock | None:
    """Take the lock at once, or return None because someone holds it in a way that excludes this."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(path, descriptor)


def wait_for(
    path: Path, *, deadline: float, shared: bool = False, check: Callable[[], object] = lambda: None
) -> Lock | None:
    """
    Take the lock as soon as it is free.

    Args:
        path: The file that is locked; made when it is missing.
        deadline: When to give up, on the monotonic clock.
        shared: Whether to hold it together with other shared holders.
        check: Called while waiting; what it raises ends the wait.

    Returns:
        The lock, or None when the deadline has passed.
    """
    while (lock := take(path, shared=shared)) is None and time.monotonic() < deadline:
        check()
        time.sleep(POLL)
    return lock


def is_held(path: Path) -> bool:
    """
    Tell whether a living process holds the lock exclusively.

    Looking takes the lock for an instant, so whoever wants it for good waits for it a little.
    """
    lock = take(path, shared=True)
    if lock is not None:
        lock.release()
    return lock is None
