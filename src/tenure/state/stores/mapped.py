"""
Counts that all processes of a deployment on this machine share: one mapped file, and no server.

A process adds to a row of its own, so an add is one store into memory that the others see at once; the value is the sum
over all rows. A process that dies, however it dies, leaves its row as it is, for the next one to go on from.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

from tenure.errors import StateFull, StateUnavailable
from tenure.state.stores import rows
from tenure.state.stores.counts import DEFAULT_LAYOUT, CountsFile, Layout, create
from tenure.state.stores.numbers import NOBODY, MappedNumber, closed

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class MappedCounts:
    """
    The counts of one deployment, as this process shares them with others.

    Made by `share`; one for each folder, however many apps of this process use it.

    Attributes:
        path: The file.
        users: The parts that apps of this process have in it.
    """

    def __init__(self, folder: Path, *, durable: bool, layout: Layout) -> None:
        self.path = folder / "counts"
        self.users: set[Share] = set()
        self._takes_turns = False
        self._folder = folder
        self._durable = durable
        self._layout = layout
        self._numbers: dict[str, MappedNumber] = {}
        self._owner = NOBODY
        self._joined: tuple[CountsFile, rows.Row] | None = None
        self._inherited = False

    @property
    def epoch(self) -> bytes:
        """Sixteen bytes that stay while the counts go on, and are others once they have begun anew."""
        return self._place()[0].epoch

    def join(self, owner: int) -> None:
        """Take a row, unless this process has one; begin anew if nobody has, and the counts are not durable."""
        if self._joined is not None:
            return
        with rows.alone(self._folder):
            row, in_use = rows.claim(self._folder)
            try:
                self._joined = self._open(row, in_use=in_use), row
                self._owner, self._takes_turns = owner, False
                for number in self._numbers.values():
                    self._attach(number)
            except BaseException:
                self._give_back(row)
                raise
            self._inherited = False

    def _open(self, row: rows.Row, *, in_use: bool) -> CountsFile:
        if in_use and not self.path.exists():
            msg = "the file of counts was removed while other workers use it"
            raise StateUnavailable(msg, path=[str(self.path)], hint="stop all workers, and start them again")
        if not in_use and not (self._durable and self.path.exists()):
            create(self.path, self._layout, durable=self._durable)
        file = CountsFile(self.path, durable=self._durable, in_use=in_use)
        if row.number >= file.layout.rows:
            msg = f"there is no room for one more process: {file.layout.rows} share these counts"
            raise StateFull(msg, path=[str(self.path)], hint="run fewer, or give some of them another deployment")
        file.use(own=row.number + 1)
        return file

    def number(self, name: str, owner: int) -> MappedNumber:
        """Give the count of a name, for a thread that adds to it."""
        number = self._numbers.get(name)
        if number is None:
            number = MappedNumber(self, name)
            with rows.alone(self._folder):
                self._attach(number)
            self._numbers[name] = number
        if owner != self._owner:
            self._take_turns()
        return number

    def names(self) -> tuple[str, ...]:
        """Give the names of all counts; waits for other processes only if one has added a name."""
        with _opening, _reaching(self._folder):
            file, _ = self._place()
            if not file.has_news:
                return file.names()
            with rows.alone(self._folder):
                return file.names()

    def _attach(self, number: MappedNumber) -> None:
        file, row = self._place()
        number.attach(file.column(number.name), file.marks, row.number, self._owner)

    def _take_turns(self) -> None:
        """Let other threads than the owner add; readers are told before the first does."""
        if not self._takes_turns:
            file, row = self._place()
            with rows.alone(self._folder):
                file.use(shared=row.number + 1)
            self._takes_turns = True
        for number in self._numbers.values():
            number.take_turns()

    def _place(self) -> tuple[CountsFile, rows.Row]:
        if self._joined is None:
            raise closed(self.path)
        return self._joined

    def resume(self, *, adding: bool = False) -> None:
        """
        Join, in a forked child; and let other threads than the owner add.

        Raises:
            AlreadyClosed: The counts are closed, not inherited.
            StateError: It cannot join.
        """
        with _opening, _reaching(self._folder):
            if self._inherited:
                self.join(NOBODY)
            self._place()
            if adding:
                self._take_turns()

    def leave(self) -> None:
        """Give the row back; its numbers refuse to be used from now on."""
        if self._joined is not None:
            self._give_back(self._joined[1])

    def _give_back(self, row: rows.Row) -> None:
        for number in self._numbers.values():
            number.detach()
        self._joined = None
        row.release()

    def inherit(self) -> None:
        """Leave the row to the parent, in a forked child."""
        self.users.clear()
        for number in self._numbers.values():
            number.inherit()
        if self._joined is not None:
            _, row = self._joined
            self._joined, self._inherited = None, True
            with suppress(OSError):  # it may have been closed, as a daemon closes what it has inherited
                row.forget()


class Share:
    """
    One app's part in the counts of a deployment.

    Attributes:
        number: The count that it has asked for.
        epoch: Sixteen bytes that stay while the counts go on, and are others once they have begun anew.
    """

    def __init__(self, counts: MappedCounts, number: MappedNumber) -> None:
        self.number = number
        self.epoch = counts.epoch
        self._counts = counts
        counts.users.add(self)

    def names(self) -> tuple[str, ...]:
        """
        Give the names of all counts of the deployment; blocks a little.

        Raises:
            AlreadyClosed: It is closed.
            StateUnavailable: Another process keeps the folder locked.
        """
        return self._counts.names()

    def close(self) -> None:
        """
        Give it back; twice is as good as once, and a parent's share is none in a forked child.

        To be called by the thread that owns it, so that it is not adding meanwhile.
        """
        with _opening:
            if self in self._counts.users:
                self._counts.users.remove(self)
                _leave_if_unused(self._counts)


def share(folder: Path, name: str, *, owner: int, durable: bool = False, layout: Layout = DEFAULT_LAYOUT) -> Share:
    """
    Take part in the counts that lie in a folder; blocks a little.

    Args:
        folder: Of this part of a deployment, as `places.settled` gives it.
        name: Which count.
        owner: The thread that will add the most, an event loop's; it needs no lock if it is the first.
        durable: Whether the counts go on when nobody has shared them for a while, and after a restart of the machine.
        layout: What a new file has room for.

    Raises:
        StateUnavailable: The folder cannot be read or written, or another process keeps it locked.
        StateMismatch: The file is not one of ours.
        StateFull: There is no room for one more process or name.
    """
    with _opening, _reaching(folder):
        counts = _open.get(folder) or MappedCounts(folder, durable=durable, layout=layout)
        counts.join(owner)
        _open[folder] = counts
        try:
            mine = Share(counts, counts.number(name, owner))
        except BaseException:
            _leave_if_unused(counts)
            raise
        return mine


def _leave_if_unused(counts: MappedCounts) -> None:
    if not counts.users:
        del _open[counts.path.parent]
        counts.leave()


@contextmanager
def _reaching(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        msg = f"the shared counts cannot be reached: {error}"
        raise StateUnavailable(
            msg, path=[str(folder)], hint="see that this user may write there, and that the device has room"
        ) from error


_opening = Lock()
"""Held while this process joins or leaves; a fork waits for it, so that no child inherits a row half taken."""

_open: dict[Path, MappedCounts] = {}


def _after_fork_in_child() -> None:
    try:
        for counts in _open.values():
            counts.inherit()
    finally:
        _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork_in_child)
