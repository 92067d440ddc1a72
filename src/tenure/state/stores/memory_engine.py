"""The engine of the scope `app`: values, locks and topics in the memory of one process, for one event loop."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from tenure.state.stores.mailbox import Mailbox
from tenure.state.stores.whole_numbers import no_number, within_64_bits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from tenure.state.engines import Missed

ENTRIES = 10_000
"""How many values a cache keeps, unless it says otherwise."""

TOTAL_BYTES = 64 * 1024 * 1024
"""Bytes of keys and values that a cache keeps, unless it says otherwise."""


_WHOLE_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)")
_DIGITS = 20


class Entry(NamedTuple):
    """A value, and when it expires."""

    value: bytes
    expires: float


class Entries:
    """The values of one cache, within bounds: what was used least recently goes first."""

    def __init__(self, clock: Callable[[], float], max_entries: int = ENTRIES, max_bytes: int = TOTAL_BYTES) -> None:
        self._clock = clock
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Entry | None:
        """Give what is kept and has not expired, which makes it the one used last."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self.remove(key)
            return None
        self._kept.move_to_end(key)
        return entry

    def set(self, key: str, value: bytes, *, ttl: float | None) -> None:
        """Keep a value, and drop what is too much then."""
        self.put(key, Entry(value, math.inf if ttl is None else self._clock() + ttl))

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry, and drop what is too much then."""
        self.remove(key)
        self._kept[key] = entry
        self._bytes += _size(key, entry)
        while len(self._kept) > self.max_entries or self._bytes > self.max_bytes:
            self.remove(next(iter(self._kept)))

    def remove(self, key: str) -> bool:
        """Drop a value, and tell whether there was one."""
        entry = self._kept.pop(key, None)
        if entry is None:
            return False
        self._bytes -= _size(key, entry)
        return entry.expires > self._clock()


def _size(key: str, entry: Entry) -> int:
    return len(key.encode()) + len(entry.value)


class Grant(NamedTuple):
    """Who holds a lock, and until when."""

    holder: str
    expires: float


class MemoryEngine:
    """
    Keeps the state of one app in this process; all of it ends with the app.

    Each call is one atomic step of the event loop: none of them waits. It is for that loop alone.

    Args:
        clock: Gives seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, Entries] = {}
        self._for_good: dict[str, bytes] = {}
        self._grants: dict[str, Grant] = {}
        self._token = 0
        self._subscribers: dict[str, list[Mailbox]] = {}

    def bound(self, handle: str, *, max_entries: int | None, max_bytes: int | None) -> None:
        """Bound what is kept of one handle, such as ``"cache:sessions"``."""
        self._entries[handle] = Entries(self._clock, max_entries or ENTRIES, max_bytes or TOTAL_BYTES)

    def _entries_of(self, key: str) -> Entries:
        handle = key[: key.find(":", key.find(":") + 1)]
        if handle not in self._entries:
            self._entries[handle] = Entries(self._clock)
        return self._entries[handle]

    async def get(self, key: str) -> bytes | None:
        """Give a value, or nothing when there is none or it has expired."""
        entry = self._entries_of(key).get(key)
        return entry.value if entry else None

    async def set(self, key: str, value: bytes, *, ttl: float | None) -> None:
        """Keep a value for `ttl` seconds, or until it is deleted or too much is kept."""
        self._entries_of(key).set(key, value, ttl=ttl)

    async def delete(self, key: str) -> bool:
        """Delete a value, and tell whether there was one."""
        return self._entries_of(key).remove(key)

    async def keep(self, key: str, value: bytes) -> None:
        """Keep a value as long as the engine lives, unless one is kept."""
        self._for_good.setdefault(key, value)

    async def kept(self, key: str) -> bytes | None:
        """Give what `keep` has kept, or nothing."""
        return self._for_good.get(key)

    async def increment(self, key: str, by: int, *, ttl: float | None) -> int:
        """Add to a number in one atomic step; the first add begins at 0 and sets the expiry."""
        entries = self._entries_of(key)
        entry = entries.get(key)
        if entry is None:
            number = within_64_bits(by, key)
            entries.set(key, b"%d" % number, ttl=ttl)
            return number
        if len(entry.value) > _DIGITS or not _WHOLE_NUMBER.fullmatch(entry.value):
            raise no_number(key)
        number = within_64_bits(int(entry.value) + by, key)
        entries.put(key, Entry(b"%d" % number, entry.expires))
        return number

    async def acquire(self, name: str, *, holder: str, lease: float) -> int | None:
        """Take a lock for `lease` seconds, unless another holder has it; give a token above all before."""
        grant = self._grants.get(name)
        if grant and grant.holder != holder and grant.expires > self._clock():
            return None
        self._grants[name] = Grant(holder, self._clock() + lease)
        self._token += 1
        return self._token

    async def renew(self, name: str, *, holder: str, lease: float) -> bool:
        """Hold a lock for `lease` seconds from now, and tell whether it was still held."""
        grant = self._grants.get(name)
        if grant is None or grant.holder != holder or grant.expires <= self._clock():
            return False
        self._grants[name] = Grant(holder, self._clock() + lease)
        return True

    async def release(self, name: str, *, holder: str) -> None:
        """Give a lock back, if it is still held by this holder."""
        grant = self._grants.get(name)
        if grant and grant.holder == holder:
            del self._grants[name]

    async def publish(self, topic: str, message: bytes) -> None:
        """Send a message to all who are subscribed now."""
        for subscriber in self._subscribers.get(topic, ()):
            subscriber.put(message)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncGenerator[AsyncIterator[bytes | Missed]]:
        """Receive what is published from the enter on, with `MISSED` where the receiver was too slow."""
        subscriber = Mailbox()
        subscribers = self._subscribers.setdefault(topic, [])
        subscribers.append(subscriber)
        try:
            yield subscriber
        finally:
            subscribers.remove(subscriber)
            if not subscribers:
                self._subscribers.pop(topic, None)

    def close(self) -> None:
        """End what is subscribed."""
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.close()
