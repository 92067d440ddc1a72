"""What is counted, kept and sent, and what a contender does it with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Value = dict[str, Any]

VALUE: Value = {
    "id": 4711,
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "active": True,
    "roles": ["reader", "author", "admin"],
    "settings": {"language": "en", "theme": "dark", "rows": 50},
}
"""What is kept and sent: what a program has of a user."""

TTL = 60
"""Seconds that it is kept."""

LOAD = 0.01
"""Seconds that the database takes."""


@dataclass(frozen=True)
class Counting:
    """
    How a contender counts for all processes of a machine.

    Attributes:
        name: What tables call it.
        add: Adds one, in the event loop.
        value: Gives the count, over all processes, in the event loop.
        add_in_thread: Adds one, in any other thread.
        waits: Whether the first two wait for a server, and so are awaited.
    """

    name: str
    add: Callable[[], Any]
    value: Callable[[], Any]
    add_in_thread: Callable[[], object]
    waits: bool = False


@dataclass(frozen=True)
class Caching:
    """
    How a contender keeps values.

    Attributes:
        name: What tables call it.
        get: Gives a value, or nothing.
        set: Keeps a value for `TTL` seconds.
        get_or_load: Gives a value, or loads it from the contender's database and keeps it for `TTL` seconds.
        increment: Adds one to a number, and gives the new one.
        limit: The same; the first add sets an expiry.
        prefix: Stands before keys, so that those of others are others.
        notes: What is not as a work says, by the work.
    """

    name: str
    get: Callable[[str], Awaitable[Any]]
    set: Callable[[str, Value], Awaitable[object]]
    get_or_load: Callable[[str], Awaitable[Any]]
    increment: Callable[[str], Awaitable[int]]
    limit: Callable[[str], Awaitable[int]]
    prefix: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sending:
    """
    How a contender sends messages, to one who is subscribed.

    Attributes:
        name: What tables call it.
        publish: Sends a message.
        receive: Gives the next one.
    """

    name: str
    publish: Callable[[Value], Awaitable[object]]
    receive: Callable[[], Awaitable[Any]]


class Database:
    """
    What is loaded from.

    Attributes:
        loads: How often it was.
    """

    def __init__(self) -> None:
        self.loads = 0

    async def load(self, key: str) -> Value:
        """Take as long as a query."""
        del key
        self.loads += 1
        await asyncio.sleep(LOAD)
        return VALUE
