"""Clients that ask the app one thing after another, and note what they were answered, and when."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.faults.pools.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.pools.serving import Served

PAUSE = 0.05
"""Seconds that a client waits after each answer, so that others come to their turn on a small machine."""
IN_A_ROW = 10
"""How many answers in a row show a client that all is well again."""


@dataclass
class Answer:
    """What a client was answered, with 0 for a connection that broke; times are of the monotonic clock."""

    status: int
    asked: float
    at: float


@dataclass
class Client:
    """One that asks; it writes, or reads."""

    writes: bool
    number: int
    answers: list[Answer] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    workers: Counter[int] = field(default_factory=Counter)

    async def ask(self, client: httpx.AsyncClient) -> None:
        """Ask once."""
        asked = time.monotonic()
        try:
            if self.writes:
                answer = await client.post(f"/rows/{self.number}")
            else:
                answer = await client.get(f"/echo/{self.number}")
            status = answer.status_code
        except httpx.TransportError:
            status = 0
        self.answers.append(Answer(status, asked, time.monotonic()))
        if status == 201:
            self.acknowledged.add(self.number)
        elif status == 200:
            assert answer.json()["number"] == self.number
            self.workers[answer.json()["worker"]] += 1


class Load:
    """Many of them."""

    def __init__(self, clients: int) -> None:
        self.clients = [Client(writes=number % 2 == 0, number=number) for number in range(clients)]

    @asynccontextmanager
    async def upon(self, served: Served) -> AsyncIterator[None]:
        """Ask an app until the block ends."""
        is_over = asyncio.Event()

        async def ask(each: Client) -> None:
            async with served.asking() as client:
                while not is_over.is_set():
                    await each.ask(client)
                    await asyncio.sleep(PAUSE)
                    each.number += len(self.clients)

        async with asyncio.TaskGroup() as group:
            for each in self.clients:
                group.create_task(ask(each))
            try:
                yield
            finally:
                is_over.set()

    @property
    def answers(self) -> list[Answer]:
        """All answers so far."""
        return [answer for client in self.clients for answer in client.answers]

    async def until_answered(self, *statuses: int, times: int = IN_A_ROW) -> float:
        """Wait until each client's latest answers were so, asked from now on; the seconds that it took."""
        begin = time.monotonic()

        async def are_answered() -> bool:
            return all(
                len(client.answers) >= times
                and all(answer.asked >= begin and answer.status in statuses for answer in client.answers[-times:])
                for client in self.clients
            )

        return await until(are_answered, lambda: Counter(answer.status for answer in self.answers))

    def refused(self) -> list[Answer]:
        """Give the answers that were none of success."""
        return [answer for answer in self.answers if answer.status not in {200, 201}]

    def longest(self) -> float:
        """Give the seconds that a client has waited for an answer, at most."""
        return max(answer.at - answer.asked for answer in self.answers)

    def lost(self, rows: set[int]) -> set[int]:
        """Give the rows that were acknowledged, and are not there."""
        return {number for client in self.clients for number in client.acknowledged} - rows
