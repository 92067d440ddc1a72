"""What a subscriber has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tenure.state.engines import MISSED, Missed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BUFFERED_MESSAGES = 1000
BUFFERED_BYTES = 16 * 1024 * 1024
"""What is kept for a subscriber that is slower than its topic."""


class Mailbox:
    """Messages for one subscriber, within bounds: the oldest is lost first, and `MISSED` takes its place."""

    def __init__(self) -> None:
        self._kept: deque[bytes | Missed] = deque()
        self._messages = self._bytes = 0
        self._is_closed = False
        self._news = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Keep a message until it is taken."""
        self._kept.append(message)
        self._messages += 1
        self._bytes += len(message)
        self._news.set()
        if self._is_over():
            while self._is_over() or (self._kept and self._kept[0] is MISSED):
                self._take()
            self._kept.appendleft(MISSED)

    def miss(self) -> None:
        """Say that something may have been lost here; twice in a row is once."""
        if not self._kept or self._kept[-1] is not MISSED:
            self._kept.append(MISSED)
            self._news.set()

    def close(self) -> None:
        """End the iteration after what is kept."""
        self._is_closed = True
        self._news.set()

    def _is_over(self) -> bool:
        return self._messages > BUFFERED_MESSAGES or self._bytes > BUFFERED_BYTES

    def _take(self) -> bytes | Missed:
        kept = self._kept.popleft()
        if kept is not MISSED:
            self._messages -= 1
            self._bytes -= len(kept)
        return kept

    def __aiter__(self) -> AsyncIterator[bytes | Missed]:
        return self

    async def __anext__(self) -> bytes | Missed:
        while not self._kept:
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._take()


class Subscriber(Mailbox):
    """
    What one subscriber has not taken yet.

    Attributes:
        joined: Set once its channel is listened to; what was published before that is not for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.joined = asyncio.Event()
        self._has_parted = False

    def join(self) -> None:
        """Take what is sent from now on."""
        if self._has_parted:
            self.miss()
            self._has_parted = False
        self.joined.set()

    def part(self) -> None:
        """Take nothing until it joins again, and miss what is sent meanwhile."""
        self._has_parted = self._has_parted or self.joined.is_set()
        self.joined.clear()
