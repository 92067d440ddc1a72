"""The signals that end a server, noticed before the server itself acts on them, and held back where that is wanted."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]
    Note = Callable[["Noticed"], bool]

logger = logging.getLogger("tenure")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGAIN = 0.1
"""Seconds until we are put before a loop again: granian runs it anew after the start, and uvloop then forgets us."""


class Noticed:
    """
    A signal that has come.

    Attributes:
        number: Which one it is.
    """

    def __init__(self, number: int, link: _Link) -> None:
        self.number = number
        self._link = link

    def go_on(self) -> None:
        """Let who was there to handle it have it, if it was held back; in the main thread."""
        self._link.is_holding = False
        self._link.before(self.number, None)
        if self._link.loop is not None:
            self._link.loop.tell(self.number)


class _Link:
    """
    A handler in front of the one that was there before, which goes on to get every signal that is not held back.

    Attributes:
        signum: Of which signal.
        note: Who is told, and says whether to hold the signal back; nothing once the block has ended.
        before: Who was there.
        loop: The event loop, if that is who was there: it is told of a signal whichever handler Python calls.
        is_holding: Whether the last signal was held back.
    """

    def __init__(self, signum: int, note: Note, before: Handler) -> None:
        self.signum = signum
        self.note: Note | None = note
        self.before = before
        self.loop: _InFrontOfLoop | None = None
        self.is_holding = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.is_holding = self.note is not None and self.note(Noticed(signum, self))
        if not self.is_holding:
            self.before(signum, frame)


class _InFrontOfLoop:
    """
    What an event loop reads of signals (`loop.add_signal_handler`), read before it: what is held back it does not hear.

    Python writes the number of each signal into the loop's own socket, by `signal.set_wakeup_fd`. As long as one of
    several blocks goes on, it writes into ours, and what is read there is passed on. It calls the handlers before the
    loop gets to read.
    """

    def __init__(self) -> None:
        self._links: list[_Link] = []
        self._reading, self._writing = socket.socketpair()
        self._loops = -1

    def add(self, links: list[_Link]) -> None:
        """Be there for these links too; in the main thread, where the loop runs."""
        if not self._links:
            self._reading.settimeout(0)
            self._writing.settimeout(0)
            self._put()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._reading, self._read)
            self._again = loop.call_later(AGAIN, self._put)
        self._links += links
        for link in links:
            link.loop = self

    def remove(self, links: list[_Link]) -> bool:
        """Be there for these no longer, and tell whether for any."""
        self._links = [link for link in self._links if link not in links]
        if self._links:
            return True
        self._again.cancel()
        asyncio.get_running_loop().remove_reader(self._reading)
        before = signal.set_wakeup_fd(-1)
        if before == self._writing.fileno():
            before = self._loops
            self._read()
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        self._reading.close()
        self._writing.close()
        return False

    def _put(self) -> None:
        before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        if before != self._writing.fileno():
            self._loops = before

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for number in self._reading.recv(4096):
                if not any(link.is_holding and link.signum == number for link in self._links):
                    self.tell(number)

    def tell(self, number: int) -> None:
        """Let the loop hear of a signal."""
        with suppress(OSError):  # it has so many to hear of that there is no room for more
            os.write(self._loops, bytes([number]))


_in_front: WeakKeyDictionary[asyncio.AbstractEventLoop, _InFrontOfLoop] = WeakKeyDictionary()


@contextmanager
def noticed(note: Note, *, may_hold: bool = False) -> Generator[dict[int, Handler]]:
    """
    Call `note` on each SIGTERM and SIGINT of the block, as a signal handler, before the handler that is there.

    Where it gives true, and may, the signal gets neither to that handler nor to the event loop: who holds it back is to
    let it go on. It gives the handlers that it found, by their signals.

    What is left to Python's or the system's default is not touched, so that a process which nothing would end otherwise
    still ends. Nor is anything outside of the main thread, where signals cannot be had. Nothing is noticed of these;
    the debug log says so.
    """
    links = list(_linked(note)) if threading.current_thread() is threading.main_thread() else []
    if not any(link.signum == signal.SIGTERM for link in links):
        logger.debug(
            "nothing here handles SIGTERM: the app is told of a shutdown when its lifespan ends",
            extra={"tenure_event": "signals-unnoticed"},
        )
    try:
        with _in_front_of_loop([link for link in links if may_hold and _is_loops(link.before)]):
            yield {link.signum: _last(link) for link in links}
    finally:
        for link in links:
            link.note = None
            is_in_place = signal.getsignal(link.signum) is link
            if is_in_place:
                signal.signal(link.signum, _live(link))


@contextmanager
def _in_front_of_loop(links: list[_Link]) -> Generator[None]:
    if not links:
        yield
        return
    loop = asyncio.get_running_loop()
    in_front = _in_front.get(loop) or _in_front.setdefault(loop, _InFrontOfLoop())
    in_front.add(links)
    try:
        yield
    finally:
        is_needed = in_front.remove(links)
        if not is_needed:
            del _in_front[loop]


def _is_loops(handler: Handler) -> bool:
    """Tell whether a handler is what `loop.add_signal_handler` leaves in the place of one, as the loop has its own."""
    loops = {"asyncio", type(asyncio.get_running_loop()).__module__.partition(".")[0]}
    return str(getattr(_last(handler), "__module__", "")).partition(".")[0] in loops


def _linked(note: Note) -> Iterator[_Link]:
    for signum in SIGNALS:
        before = signal.getsignal(signum)
        if callable(before) and before is not signal.default_int_handler:
            link = _Link(signum, note, before)
            signal.signal(signum, link)
            yield link


def _live(handler: Handler) -> Handler:
    """Leave out links whose blocks have ended, which need not be in the order in which they began."""
    while isinstance(handler, _Link) and handler.note is None:
        handler = handler.before
    return handler


def _last(handler: Handler) -> Handler:
    """Give the server's own handler, behind all links."""
    while isinstance(handler, _Link):
        handler = handler.before
    return handler
