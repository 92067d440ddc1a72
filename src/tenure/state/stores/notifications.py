"""
All that a process has subscribed to in PostgreSQL: LISTEN on one connection, however many listen.

A notification carries less than 8000 bytes of text. A larger message is sent as several, in one transaction: PostgreSQL
hands them on in order, with none of another transaction between them, so a listener puts them together as they come.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from tenure.state.engines import MISSED, Missed
from tenure.state.stores.mailbox import Subscriber

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Session = Connection[Record] | PoolConnectionProxy[Record]

logger = logging.getLogger("tenure.state")

PART_BYTES = 5760
"""What one notification carries of a message: 7680 bytes as base64."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two attempts to connect: doubled each time."""


def channel_of(deployment: str, topic: str) -> str:
    """Give the channel of a topic: a name that PostgreSQL takes, however long the topic's is."""
    return f"tenure_{blake2b(f'{deployment}:{topic}'.encode(), digest_size=16).hexdigest()}"


def parts_of(message: bytes) -> list[str]:
    """Give the notifications that carry a message; each is another, for PostgreSQL sends what is the same only once."""
    count = max(1, -(-len(message) // PART_BYTES))
    cuts = (message[number * PART_BYTES : (number + 1) * PART_BYTES] for number in range(count))
    return [f"{number}/{count}:{b64encode(cut).decode()}" for number, cut in enumerate(cuts, 1)]


class Assembly:
    """What has come of a message in several parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, notification: str) -> bytes | Missed | None:
        """Give the message that is whole with this part, or nothing; `MISSED` if the part does not follow the last."""
        head, _, text = notification.partition(":")
        number, _, count = head.partition("/")
        try:
            part, is_next = b64decode(text, validate=True), int(number) == len(self._parts) + 1
            is_last = int(number) == int(count)
        except ValueError:
            part, is_next, is_last = b"", False, False  # another program's
        if not is_next:
            self._parts.clear()
            return MISSED
        self._parts.append(part)
        if not is_last:
            return None
        message = b"".join(self._parts)
        self._parts.clear()
        return message


class Notifications:
    """
    Listens to channels, and again when the connection was lost.

    One task has the connection to itself: it listens to what is new, gives up what nobody wants, and asks a question
    in between. Its answer shows that the server is alive, and comes after all notifications that were sent before.

    Args:
        connect: Gives a connection for as long as it is entered; raises `OSError` or what asyncpg does.
        failures: What a connection raises that is lost or refused.
        name: What logs call the server.
        deadline: Seconds after which a server that does not answer is taken for gone.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Session]],
        failures: tuple[type[Exception], ...],
        name: str,
        deadline: float,
    ) -> None:
        self._connect = connect
        self._failures = failures
        self._name = name
        self._deadline = deadline
        self._mailboxes: dict[str, set[Subscriber]] = {}
        self._assemblies: dict[str, Assembly] = {}
        self._news = asyncio.Event()
        self._is_lost = False
        self._pause = SHORTEST_PAUSE
        self._task: asyncio.Task[None] | None = None
        self.reason = ""

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncGenerator[AsyncIterator[bytes | Missed]]:
        """
        Receive what is published to a channel from the enter on.

        Raises:
            TimeoutError: The server has not confirmed it by the deadline; `reason` may say why.
        """
        mailbox = Subscriber()
        self._mailboxes.setdefault(channel, set()).add(mailbox)
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="tenure: subscribed to PostgreSQL")
            self._news.set()
            async with asyncio.timeout(self._deadline):
                await mailbox.joined.wait()
            yield mailbox
        finally:
            mailboxes = self._mailboxes[channel]
            mailboxes.remove(mailbox)
            if not mailboxes:
                del self._mailboxes[channel]
            self._news.set()

    async def close(self) -> None:
        """End the connection, and the iteration of who is subscribed."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()

    async def _run(self) -> None:
        while True:
            self._is_lost = False
            try:
                async with self._connect() as session:
                    session.add_termination_listener(self._lose)
                    await self._listen(session)
            except TimeoutError:
                self.reason = f"it did not answer within {self._deadline:g} s"
            except self._failures as error:
                self.reason = str(error) or type(error).__name__
            if self._pause == SHORTEST_PAUSE and self._mailboxes:
                logger.warning(
                    "messages from %s may be lost: %s",
                    self._name,
                    self.reason,
                    extra={"tenure_event": "messages-lost", "tenure_engine": self._name},
                )
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _lose(self, session: object) -> None:
        del session
        self._is_lost = True
        self._news.set()

    async def _listen(self, session: Session) -> None:
        """Follow what is wanted until the connection is lost."""
        heard: dict[str, Assembly] = {}
        self._assemblies = heard
        for mailbox in self._all():
            mailbox.part()
        while not self._is_lost:
            self._news.clear()
            waiting = self._all()
            await self._ask(session, heard)
            self._pause = SHORTEST_PAUSE
            for mailbox in waiting:
                mailbox.join()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._deadline / 2):
                    await self._news.wait()
        self.reason = "the connection was lost"

    def _all(self) -> list[Subscriber]:
        return [mailbox for mailboxes in self._mailboxes.values() for mailbox in mailboxes]

    async def _ask(self, session: Session, heard: dict[str, Assembly]) -> None:
        """Listen to what is wanted and nothing else, and hear all that was sent until now."""
        for channel in set(self._mailboxes) - set(heard):
            heard[channel] = Assembly()
            async with asyncio.timeout(self._deadline):
                await session.add_listener(channel, self._hear)
        for channel in set(heard) - set(self._mailboxes):
            del heard[channel]
            async with asyncio.timeout(self._deadline):
                await session.remove_listener(channel, self._hear)
        async with asyncio.timeout(self._deadline):
            await session.execute("SELECT")

    def _hear(self, session: object, process: int, channel: str, notification: object) -> None:
        del session, process
        assembly = self._assemblies.get(channel)
        message = assembly.add(str(notification)) if assembly else None
        if message is None:
            return
        for mailbox in self._mailboxes.get(channel, ()):
            if mailbox.joined.is_set():
                if message is MISSED:
                    mailbox.miss()
                else:
                    mailbox.put(message)
