"""One count as one process adds to it: to two cells of its own, of which one needs no lock."""

from __future__ import annotations

from threading import Lock, get_ident
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tenure.errors import AlreadyClosed, StateFull
from tenure.state.stores.counts import Words, marks_of

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 0
"""No thread's number."""

ALONE = 1
"""The marks of a file in which one row was ever used, and by its own thread alone."""

_View: TypeAlias = tuple[int, Words, Words]


class Counts(Protocol):
    """The counts that a number belongs to, as far as it needs to know them."""

    path: Path
    has_others: bool

    def resume(self, *, adding: bool = False) -> None:
        """Join in a forked child; tell readers before another thread than the owner adds; refuse what is closed."""
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
        "_others",
        "_owner",
        "_shared",
        "_view",
        "name",
    )

    def __init__(self, counts: Counts, name: str) -> None:
        self.name = name
        self._counts = counts
        self._lock = Lock()
        self.detach()

    def attach(self, column: Words, marks: Words, row: int, owner: int) -> None:
        """Take up a row, with what its last process left in it."""
        with self._lock:
            half = len(column) // 2
            self._column = column
            self._marks = marks
            self._view: _View = (0, column[:0], column[:0])
            self._cell = column[row : row + 1]
            self._mine: int = self._cell[0]
            self._others: Words | None = column[half + row : half + row + 1]
            self._shared: int = self._others[0]
            self._owner = owner

    def detach(self) -> None:
        """Write to the row no more."""
        with self._lock:
            self._owner = NOBODY
            self._others = None

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
        if get_ident() != self._owner:
            return self._add_in_turn(n)
        try:
            # The file first: if it refuses, nothing has changed.
            self._cell[0] = self._mine = mine = self._mine + n
        except ValueError as error:
            raise self._too_large(n) from error
        # Nobody else has ever added: there is nothing to sum up.
        return mine if self._marks[0] == ALONE else self._sum()

    @property
    def value(self) -> int:
        """
        The value now: every add that returned before this was called, whoever made it.

        Raises:
            AlreadyClosed: The app that opened it is closed.
            StateError: This is a forked child, and it cannot join.
        """
        if self._others is None:
            self._counts.resume()
        return self._sum()

    def _sum(self) -> int:
        word = self._marks[0]
        seen, own, others = self._view
        if word != seen:
            own, others = self._look(word)
        return sum(own) + sum(others) if others else sum(own)

    def _look(self, word: int) -> tuple[Words, Words]:
        marks = marks_of(word)
        half = len(self._column) // 2
        own, others = self._column[: marks.own], self._column[half : half + marks.others]
        self._view = (word, own, others)  # as one, for another thread may look too
        return own, others

    def _add_in_turn(self, n: int) -> int:
        if self._others is None or not self._counts.has_others:
            self._counts.resume(adding=True)
        with self._lock:
            if self._others is None:
                raise closed(self._counts.path)
            try:
                self._others[0] = self._shared = self._shared + n
            except ValueError as error:
                raise self._too_large(n) from error
        return self._sum()

    def _too_large(self, n: int) -> StateFull:
        msg = f"the counter `{self.name}` has no room for {n} more: each process adds to a number of 64 bits"
        return StateFull(msg, path=[str(self._counts.path)], hint="count in larger units")


def closed(path: Path) -> AlreadyClosed:
    """Say that a count, or all of a file, is used too late."""
    msg = "a shared count was used after its app had closed it"
    return AlreadyClosed(
        msg, path=[str(path)], hint="end what uses it, such as a background task, before the app shuts down"
    )
