"""What a machine keeps of the counts that it shares with others: its own totals, and what is known of the others'."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakSet

from tenure.host import locks
from tenure.state.stores import mapped, places
from tenure.state.stores.counts import Layout, boot_id
from tenure.state.stores.totals import ClusterNumber, Replica, Totals

if TYPE_CHECKING:
    from pathlib import Path

    from tenure.state.stores.mapped import Share
    from tenure.state.stores.numbers import MappedNumber

ADDED, REMOVED, OTHERS, LEARNED = "+-~@"
"""What the name of a count begins with: four belong to one counter."""
LAYOUT = Layout(columns=4096)
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> int:
    """Give nanoseconds of a clock that all processes of this machine share, and that nobody sets."""
    return time.clock_gettime_ns(_CLOCK)


def settled(deployment: str, url: str, interval: float) -> Path:
    """
    Give the folder for the totals that are published to one engine at one interval; blocks a little.

    Each boot has its own: files that a power cut has set back would count what was published once more.

    Raises:
        StateUnavailable: It cannot be made.
        StateMismatch: It is open to others.
    """
    parts = urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # a new password is no other engine
    told = f"{boot_id().hex()} {place} {interval:.3f}"
    return places.settled(deployment, f"cluster-{hashlib.sha256(told.encode()).hexdigest()[:16]}")


class HostTotals:
    """
    The totals of one machine, in a mapped file that all its workers share.

    It goes on where the last worker has left it, and so what was not published yet is published later. Everything but
    `held` and `learn` blocks a little.

    Args:
        folder: As `settled` gives it.
        owner: The thread that will add the most.
    """

    def __init__(self, folder: Path, owner: int) -> None:
        self.folder = folder
        self._owner = owner
        self._shares: list[Share] = []
        self._numbers: dict[str, ClusterNumber] = {}
        self._replica_file = folder / "replica"
        self._joining = Lock()

    def number(self, name: str) -> ClusterNumber:
        """
        Give the count of a name.

        Raises:
            StateUnavailable: The folder cannot be read or written.
            StateMismatch: The file is not one of ours.
            StateFull: There is no room for one more process or name.
        """
        with self._joining:
            if name not in self._numbers:
                self._numbers[name] = ClusterNumber(
                    name, *(self._join(f"{part}{name}") for part in (ADDED, REMOVED, OTHERS, LEARNED))
                )
            return self._numbers[name]

    def _join(self, name: str) -> MappedNumber:
        self._shares.append(mapped.share(self.folder, name, owner=self._owner, durable=True, layout=LAYOUT))
        return self._shares[-1].number

    def discover(self) -> None:
        """Find the counters that other workers have declared."""
        if self._shares:
            for name in self._shares[0].names():
                if name.startswith(ADDED):
                    self.number(name[1:])

    def held(self) -> dict[str, Totals]:
        """Give what this machine has counted."""
        return {name: number.held for name, number in tuple(self._numbers.items())}

    def learned(self) -> list[int]:
        """Give when each counter's others were asked for."""
        return [number.learned for number in tuple(self._numbers.values())]

    def learn(self, others: dict[str, int], at: int) -> None:
        """Let all workers know what others have counted; only for the one that publishes."""
        for name, value in others.items():
            self._numbers[name].learn(value, at)

    def replica(self) -> Replica | None:
        """Give the replica that these totals are now; there is none before the first counter."""
        if not self._shares:
            return None
        first = Replica(self._shares[0].epoch.hex())
        try:
            kept = json.loads(self._replica_file.read_text())
        except (FileNotFoundError, ValueError):
            return first
        if kept["epoch"] != first.epoch:
            return first
        bases = {name: Totals(*totals) for name, totals in kept["bases"].items()}
        return Replica(first.epoch, kept["number"], bases)

    def keep(self, replica: Replica) -> None:
        """Let whoever publishes next know which replica these totals are, before anything is published as it."""
        new = self._replica_file.with_suffix(".new")
        told = {"epoch": replica.epoch, "number": replica.number, "bases": replica.bases}
        new.write_text(json.dumps(told))
        new.replace(self._replica_file)

    def close(self) -> None:
        """Give everything back; the file stays."""
        with self._joining:
            for share in self._shares:
                share.close()
            self._shares.clear()


class Turn:
    """
    The right to publish for this machine, which one process has at a time, until it gives it back or dies.

    A forked child does not inherit it: it would keep it after its parent's death, and publish nothing.
    """

    def __init__(self, lock: locks.Lock) -> None:
        self._lock: locks.Lock | None = lock
        _turns.add(self)

    def end(self) -> None:
        """Give it back."""
        lock, self._lock = self._lock, None
        _turns.discard(self)
        if lock is not None:
            with suppress(OSError):  # a daemon closes what it has inherited
                lock.release()


def take_turn(folder: Path) -> Turn | None:
    """Take the right to publish, unless another process, or another app of this one, has it."""
    lock = locks.take(folder / "publisher")
    return None if lock is None else Turn(lock)


_turns: WeakSet[Turn] = WeakSet()


def _after_fork_in_child() -> None:
    for turn in tuple(_turns):
        turn.end()


os.register_at_fork(after_in_child=_after_fork_in_child)
