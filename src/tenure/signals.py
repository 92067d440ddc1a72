"""The signals that end a server, noticed before the server itself acts on them."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]

logger = logging.getLogger("tenure")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Link:
    """
    A handler in front of the one that was there before, which goes on to get every signal.

    An event loop's handler is kept as well: asyncio and uvloop are told of a signal whichever handler Python calls.
    """

    def __init__(self, note: Callable[[], None], before: Handler) -> None:
        self.note: Callable[[], None] | None = note
        self.before = before

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.note is not None:
            self.note()
        self.before(signum, frame)


@contextmanager
def noticed(note: Callable[[], None]) -> Generator[list[Handler]]:
    """
    Call `note` on each SIGTERM and SIGINT of the block, as a signal handler, before the handler that is there.

    It gives the handlers that it found. What is left to Python's or the system's default is not touched, so that a
    process which nothing would end otherwise still ends. Nor is anything outside of the main thread, where signals
    cannot be had. Nothing is noticed of these; the debug log says so.
    """
    links = list(_linked(note)) if threading.current_thread() is threading.main_thread() else []
    if not any(signum == signal.SIGTERM for signum, _ in links):
        logger.debug("nothing here handles SIGTERM: the app is told of a shutdown when its lifespan ends")
    try:
        yield [_last(link) for _, link in links]
    finally:
        for signum, link in links:
            link.note = None
            is_in_place = signal.getsignal(signum) is link
            if is_in_place:
                signal.signal(signum, _live(link))


def _linked(note: Callable[[], None]) -> Iterator[tuple[signal.Signals, _Link]]:
    for signum in SIGNALS:
        before = signal.getsignal(signum)
        if callable(before) and before is not signal.default_int_handler:
            link = _Link(note, before)
            signal.signal(signum, link)
            yield signum, link


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
