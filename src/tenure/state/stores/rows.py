"""
Who may write where: each living process holds a row of its own, by a `flock` on a file that stands for the row.

The kernel drops the lock however the process dies, so a row of the dead is free at once, and the next process that
needs one goes on from what it finds there.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tenure.errors import StateUnavailable
from tenure.host import locks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PATIENCE = 10.0
"""Seconds to wait for whoever is joining or adding a name, which takes milliseconds."""


class Row:
    """
    A row that this process holds.

    Attributes:
        number: Which one, from 0.
    """

    def __init__(self, number: int, lock: locks.Lock) -> None:
        self.number = number
        self._lock = lock

    def release(self) -> None:
        """Give it back for the next process, although a forked child may have inherited the open file."""
        _unlock(self._lock)

    def forget(self) -> None:
        """Close what a forked child has inherited; the row stays its parent's."""
        self._lock.release()


def claim(folder: Path) -> tuple[Row, bool]:
    """
    Take the first row that no living process holds, and tell whether another process holds one.

    Only to be called within `alone`: it takes each row for an instant.
    """
    last = max((int(path.suffix[1:]) for path in folder.glob("row.*") if path.suffix[1:].isdecimal()), default=-1)
    number = 0
    free: list[Row] = []
    others = False
    try:
        while not free or number <= last:
            lock = locks.take(folder / f"row.{number}")
            if lock is None:
                others = True
            else:
                free.append(Row(number, lock))
            number += 1
    except BaseException:
        _release(free)
        raise
    _release(free[1:])
    return free[0], others


def _release(rows: list[Row]) -> None:
    for row in rows:
        row.release()


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """
    Let no other process join, or add a name, meanwhile.

    Raises:
        StateUnavailable: Another process has held the lock for too long, as one that is stopped does.
    """
    path = folder / "begin"
    lock = locks.wait_for(path, deadline=time.monotonic() + PATIENCE)
    if lock is None:
        msg = f"another process has held the lock of the shared state for {PATIENCE:g} s"
        raise StateUnavailable(msg, path=[str(path)], hint=f"see who holds it, `fuser {path}`, and end or resume that")
    try:
        yield
    finally:
        _unlock(lock)


def _unlock(lock: locks.Lock) -> None:
    # Said in so many words: closing alone would leave it to a child that was forked meanwhile.
    fcntl.flock(lock.descriptor, fcntl.LOCK_UN)
    lock.release()
