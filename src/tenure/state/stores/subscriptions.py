"""All that a process has subscribed to in Valkey, over one connection, however many listen."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from tenure.state.stores.mailbox import Subscriber
from tenure.state.stores.wire import CLOSED, Unanswered, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tenure.state.engines import Missed
    from tenure.state.stores.wire import Server

logger = logging.getLogger("tenure.state")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts to connect: doubled each time."""


class Subscriptions:
    """
    Subscribes to channels of a server, and subscribes again when the connection was lost.

    Args:
        server: Who publishes.
        deadline: Seconds after which a server that does not answer is taken for gone.
    """

    def __init__(self, server: Server, deadline: float) -> None:
        self._server = server
        self._deadline = deadline
        self._mailboxes: dict[bytes, set[Subscriber]] = {}
        self._unconfirmed: defaultdict[bytes, deque[list[Subscriber]]] = defaultdict(deque)
        self._wire: Wire | None = None
        self._lost = asyncio.Event()
        self._reason = ""
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @asynccontextmanager
    async def subscribe(self, name: str) -> AsyncGenerator[AsyncIterator[bytes | Missed]]:
        """
        Receive what is published to a channel from the enter on.

        Raises:
            Unanswered: The server has not confirmed it by the deadline.
        """
        if self._is_closed:
            raise Unanswered(CLOSED)
        channel, mailbox = name.encode(), Subscriber()
        self._mailboxes.setdefault(channel, set()).add(mailbox)
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._listen(), name="tenure: subscribed to Valkey")
            if self._wire is not None:
                self._send(self._wire, channel, [mailbox])
            await self._confirmed(mailbox)
            yield mailbox
        finally:
            self._leave(channel, mailbox)

    async def close(self) -> None:
        """End the connection, and the iteration of who is subscribed."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()

    async def _confirmed(self, mailbox: Subscriber) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                await mailbox.joined.wait()
        except TimeoutError:
            message = self._reason or f"it did not answer within {self._deadline:g} s"
            raise Unanswered(message) from None

    def _send(self, wire: Wire, channel: bytes, joining: list[Subscriber]) -> None:
        """Subscribe, also where others have: the answer comes after what was published before, and is not theirs."""
        self._unconfirmed[channel].append(joining)
        wire.put("SUBSCRIBE", channel)

    def _leave(self, channel: bytes, mailbox: Subscriber) -> None:
        mailboxes = self._mailboxes[channel]
        mailboxes.remove(mailbox)
        if mailboxes:
            return
        del self._mailboxes[channel]
        if self._wire is not None:
            self._wire.put("UNSUBSCRIBE", channel)

    async def _listen(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            try:
                connection = await self._server.connect()
            except Unanswered as error:
                self._reason = str(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = SHORTEST_PAUSE
            self._lost.clear()
            wire = Wire(connection, self._take, self._end)
            try:
                self._begin(wire)
                await self._watch(wire)
                logger.warning(
                    "messages from %s may be lost: %s",
                    self._server.name,
                    self._reason or "it is silent",
                    extra={"tenure_event": "messages-lost", "tenure_engine": self._server.name},
                )
            finally:
                self._wire = None
                self._unconfirmed.clear()
                await wire.close()

    def _begin(self, wire: Wire) -> None:
        self._wire, self._reason = wire, ""
        for channel, mailboxes in self._mailboxes.items():
            for mailbox in mailboxes:
                mailbox.part()
            self._send(wire, channel, list(mailboxes))

    async def _watch(self, wire: Wire) -> None:
        """Wait until the connection is lost, or nothing comes over it for too long."""
        loop = asyncio.get_running_loop()
        while loop.time() - wire.heard < self._deadline:
            wire.put("PING")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._deadline / 2):
                    await self._lost.wait()
                return

    def _end(self, reason: str) -> None:
        self._reason = reason
        self._lost.set()

    def _take(self, answer: Any) -> None:  # noqa: ANN401 (what Valkey says)
        match answer:
            case [b"message", channel, message]:
                for mailbox in self._mailboxes.get(channel, ()):
                    if mailbox.joined.is_set():
                        mailbox.put(message)
            case [b"subscribe", channel, _]:
                self._confirm(channel)
            case _:  # an answer to a PING, or to UNSUBSCRIBE
                pass

    def _confirm(self, channel: bytes) -> None:
        for mailbox in self._unconfirmed[channel].popleft():
            mailbox.join()
        if not self._unconfirmed[channel]:
            del self._unconfirmed[channel]
