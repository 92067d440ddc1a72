"""
The file that a deployment's counts are kept in: how it is laid out, made, opened and checked.

::

    header     magic, version, rows, columns, marks, boot, epoch; one page
    names      a record for each column: the name's length, then its bytes
    columns    two cells of 64 bits for each row; with 256 rows, a page

A row belongs to one process: one thread of it writes to its own cell, all others take turns at its shared one. So every
cell has one writer at a time, and each store is one aligned machine word, which no reader can see half done.

In a column, own cells go down from the middle and shared cells go up, so that those in use lie together and are summed
up at once. The marks say how many of each were ever used; what lies beyond is 0.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tenure.errors import StateFull, StateMismatch
from tenure.state.stores import NAME_BYTES

MAGIC = b"\x89tenure\n"
VERSION = 1
PAGE = 4096
WORD = 8

_RECORD = WORD + NAME_BYTES
_HEADER = struct.Struct("=8s4q16s16s")
_MARKS = 4
_BOOT = slice(40, 56)
_HALF = 32
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Words = memoryview
"""
The file as numbers of 64 bits, each read and written as a whole.

Never `struct.pack_into`: it clears a number before it writes it, and others read that.
"""


@dataclass(frozen=True)
class Layout:
    """How many processes, and how many names, a file has room for; what a new one is made with."""

    rows: int = 256
    columns: int = 1024

    @property
    def column_bytes(self) -> int:
        """How long a column is."""
        return 2 * self.rows * WORD

    @property
    def columns_at(self) -> int:
        """Where the first column begins."""
        return -(-(PAGE + self.columns * _RECORD) // PAGE) * PAGE

    @property
    def size(self) -> int:
        """How long the file is; it takes the memory of the columns that are used."""
        return self.columns_at + self.columns * self.column_bytes


DEFAULT_LAYOUT = Layout()


class Marks(NamedTuple):
    """How many rows were ever used: their own cells, and their shared ones."""

    own: int
    shared: int

    def word(self) -> int:
        """Give them as the one number in which they are stored."""
        return self.own | self.shared << _HALF


def marks_of(word: int) -> Marks:
    """Read the marks from the number in which they are stored."""
    return Marks(word & (1 << _HALF) - 1, word >> _HALF)


def own_cell(column: Words, row: int) -> int:
    """Tell where in a column a row's own cell is."""
    return len(column) // 2 - 1 - row


def shared_cell(column: Words, row: int) -> int:
    """Tell where in a column a row's shared cell is."""
    return len(column) // 2 + row


def used_cells(column: Words, word: int) -> Words:
    """Give the cells of a column that the marks speak of, which lie together."""
    marks, middle = marks_of(word), len(column) // 2
    return column[middle - marks.own : middle + marks.shared]


class CountsFile:
    """
    An open file of counts, mapped into the memory of this process.

    What changes its names or marks is to be called within `rows.alone`.

    Attributes:
        layout: How much it has room for.
        epoch: Sixteen bytes that no other file of counts has: what begins anew has another.
        words: The file as numbers.
        marks: The one number of `words` in which the marks are stored.

    Raises:
        StateMismatch: It is not a file of counts, or of another version, or cut short, or another machine is using it.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, *, durable: bool, in_use: bool) -> None:
        self.path = path
        self._durable = durable
        with path.open("r+b") as file:
            head = file.read(_HEADER.size)
            size = os.fstat(file.fileno()).st_size
            self.layout, boot, self.epoch = _checked(path, head, size)
            self._map = mmap.mmap(file.fileno(), self.layout.size)
        if boot != boot_id():
            if in_use:
                raise _elsewhere(path)
            self._map[_BOOT] = boot_id()
            self._keep(0, PAGE)
        self.words: Words = memoryview(self._map).cast("q")
        self.marks: Words = self.words[_MARKS : _MARKS + 1]
        self._names: dict[str, int] = {}

    def use(self, *, own: int = 0, shared: int = 0) -> None:
        """Raise the marks, so that readers look at so many cells."""
        before = marks_of(self.marks[0])
        after = Marks(max(before.own, own), max(before.shared, shared))
        if after != before:
            self.marks[0] = after.word()
            self._keep(0, PAGE)

    def column(self, name: str) -> Words:
        """
        Give the column of a name, which gets one if it has none.

        Raises:
            StateFull: All columns have names.
            OSError: There is no room on the device.
        """
        self._read_names()
        number = self._names.get(name)
        if number is None:
            number = self._add_name(name)
        begin = (self.layout.columns_at + number * self.layout.column_bytes) // WORD
        return self.words[begin : begin + 2 * self.layout.rows]

    @property
    def has_news(self) -> bool:
        """Whether other processes have added names since this one looked; may be asked at any time."""
        known = len(self._names)
        return known < self.layout.columns and self.words[(PAGE + known * _RECORD) // WORD] != 0

    def names(self) -> tuple[str, ...]:
        """Give all names that there are."""
        self._read_names()
        return tuple(self._names)

    def _read_names(self) -> None:
        while len(self._names) < self.layout.columns:
            at = PAGE + len(self._names) * _RECORD
            length = self.words[at // WORD]
            if length == 0:
                return
            name = self._map[at + WORD : at + WORD + length].decode(errors="surrogatepass")
            self._names[name] = len(self._names)

    def _add_name(self, name: str) -> int:
        number = len(self._names)
        if number == self.layout.columns:
            msg = f"there is no room for the counter `{name}`: there are {number} others"
            raise StateFull(
                msg, path=[str(self.path)], hint="a counter is declared, not made for each user or path that is met"
            )
        at = PAGE + number * _RECORD
        encoded = name.encode(errors="surrogatepass")
        # Written to the file before it is used in memory: a full device is then an error here, and not a signal that
        # ends the process at its first add.
        with self.path.open("r+b") as file:
            file.seek(at + WORD)
            file.write(encoded)
            file.seek(self.layout.columns_at + number * self.layout.column_bytes)
            file.write(bytes(self.layout.column_bytes))
        self.words[at // WORD] = len(encoded)  # last: until then, the record is empty
        self._keep(at // PAGE * PAGE, 2 * PAGE)
        self._names[name] = number
        return number

    def _keep(self, at: int, length: int) -> None:
        if self._durable:  # a count must not outlive, at a power cut, the name that says whose it is
            self._map.flush(at, length)


def create(path: Path, layout: Layout, *, durable: bool) -> None:
    """
    Make a new file in the place of one that there may be; who has that one mapped goes on with it alone.

    Raises:
        OSError: It cannot be written.
    """
    head = _HEADER.pack(MAGIC, VERSION, layout.rows, layout.columns, 0, boot_id(), os.urandom(16))
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(head.ljust(PAGE, b"\0"))
        file.truncate(layout.size)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    new.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def boot_id() -> bytes:
    """Give sixteen bytes that are the same until this machine restarts, and never again."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 (of the system)
    else:
        try:
            text = _BOOT_ID.read_text()
        except FileNotFoundError:  # nothing but the refusal of another machine hangs on it
            return bytes(16)
    return bytes.fromhex(text.strip().replace("-", ""))


def _checked(path: Path, head: bytes, size: int) -> tuple[Layout, bytes, bytes]:
    if len(head) < _HEADER.size or not head.startswith(MAGIC):
        msg = "this is not a file of tenure's counts"
        raise StateMismatch(msg, path=[str(path)], hint="stop all workers, and move it away")
    _, version, rows, columns, _, boot, epoch = _HEADER.unpack(head)
    if version != VERSION:
        msg = (
            f"the counts were written by a tenure that keeps them in form {version}, and this one knows form {VERSION}"
        )
        raise StateMismatch(
            msg, path=[str(path)], hint="stop all workers and start them with one version; a durable file is moved away"
        )
    layout = Layout(rows, columns)
    if size < layout.size:
        msg = f"the file of counts has been cut short: it has {size} bytes of {layout.size}"
        raise StateMismatch(msg, path=[str(path)], hint="stop all workers, and move it away")
    return layout, boot, epoch


def _elsewhere(path: Path) -> StateMismatch:
    msg = "another machine is using these counts, or did when this one started"
    return StateMismatch(msg, path=[str(path)], hint="give each machine a folder of its own, on a local file system")
