"""One count as one process adds to it: to two cells of its own, of which one needs no lock."""

from __future__ import annotations

from threading import Lock, get_ident
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tenure.errors import AlreadyClosed, StateFull
from tenure.state.stores.counts import Words, own_cell, shared_cell, used_cells

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 0
"""No thread's number."""

ALONE = 1
"""The marks of a file in which one row was ever used, and by its own thread alone."""

_View: TypeAlias = tuple[int, Words]


class Counts(Protocol):
    """The counts that a number belongs to, as far as it needs to know them."""

    path: Path

    def resume(self, *, adding: bool = False) -> None:
        """Join in a forked child; let other threads than the owner add; refuse what is closed."""
        ...


class MappedNumber:
    """
    One count of a deployment, for this process to add to and to read.

    Exact from any thread. The thread that opened the store, an event loop's, adds without a lock; others take turns. A
    forked child joins at its first use, with a row of its own.

    Made by `MappedCounts.number`.
    """

    __slots__ = (
        "_cell",
        "_column",
        "_counts",
        "_lock",
        "_marks",
        "_mine",
        "_owner",
        "_row",
        "_shared",
        "_turns",
        "_view",
        "name",
    )

    def __init__(self, counts: Counts, name: str) -> None:
        self.name = name
        self._counts = counts
        self._lock = Lock()
        self._column: Words | None = None
        self._turns: Words | None = None
        self._owner = NOBODY

    def attach(self, column: Words, marks: Words, row: int, owner: int) -> None:
        """Take up a row, with what its last process left in it."""
        with self._lock:
            own = own_cell(column, row)
            self._column = column
            self._marks = marks
            self._row = row
            self._view: _View = (0, column[:0])
            self._cell = column[own : own + 1]
            self._mine: int = self._cell[0]
            self._owner = owner

    def take_turns(self) -> None:
        """Let other threads than the owner add."""
        with self._lock:
            if self._column is not None and self._turns is None:
                shared = shared_cell(self._column, self._row)
                self._shared: int = self._column[shared]
                self._turns = self._column[shared : shared + 1]

    def detach(self) -> None:
        """Write to the row no more."""
        with self._lock:
            self._owner = NOBODY
            self._column = None
            self._turns = None

    def inherit(self) -> None:
        """Leave the row to the parent, in a forked child; a thread that held the lock was not forked with it."""
        self._lock = Lock()
        self.detach()

    def add(self, n: int = 1) -> int:
        """
        Add to it, and give the new value: this add, and every one that returned before it, whoever made it.

        Raises:
            AlreadyClosed: The app that opened it is closed.
            StateFull: What this process has added leaves 64 bits.
            StateError: This is a forked child, and it cannot join.
        """
        # In both branches the file comes first: if it refuses, nothing has changed.
        try:
            if get_ident() == self._owner:
                self._cell[0] = self._mine = mine = self._mine + n
                word = self._marks[0]
                if word == ALONE:  # nobody else has ever added: there is nothing to sum up
                    return mine
            else:
                self._lock.acquire()  # `with` would take a third longer than all else that is done here
                try:
                    cell = self._turns
                    if cell is not None:
                        cell[0] = self._shared = self._shared + n
                finally:
                    self._lock.release()
                if cell is None:
                    self._counts.resume(adding=True)
                    return self.add(n)
                word = self._marks[0]
        except ValueError as error:
            msg = f"the counter `{self.name}` has no room for {n} more: each process adds to a number of 64 bits"
            raise StateFull(msg, path=[str(self._counts.path)], hint="count in larger units") from error
        seen, cells = self._view
        return sum(cells if word == seen else self._look(word))

    @property
    def value(self) -> int:
        """
        The value now: every add that returned before this was called, whoever made it.

        Raises:
            AlreadyClosed: The app that opened it is closed.
            StateError: This is a forked child, and it cannot join.
        """
        if self._column is None:
            self._counts.resume()
        word = self._marks[0]
        seen, cells = self._view
        return sum(cells if word == seen else self._look(word))

    def _look(self, word: int) -> Words:
        column = self._column
        if column is None:
            raise closed(self._counts.path)
        cells = used_cells(column, word)
        self._view = (word, cells)  # as one, for another thread may look too
        return cells


def closed(path: Path) -> AlreadyClosed:
    """Say that a count, or all of a file, is used too late."""
    msg = "a shared count was used after its app had closed it"
    return AlreadyClosed(
        msg, path=[str(path)], hint="end what uses it, such as a background task, before the app shuts down"
    )
