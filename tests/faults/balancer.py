"""A load balancer as small as one can be: it asks instances whether they are ready, and sends requests to those."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Self

import httpx

EVERY = 0.2
"""Seconds between two looks at an instance."""
PATIENCE = 2
"""Seconds after which an instance that does not answer counts as not ready."""


class Balancer:
    """
    Sends each request to one of the instances that were ready when they were last asked, in turn, and never again.

    Attributes:
        ready: Where requests go now.
        answered: How many were answered 200.
        failed: How each of the others ended.

    Args:
        instances: The base URL of each.
    """

    def __init__(self, instances: Sequence[str]) -> None:
        self.ready: set[str] = set()
        self.answered = 0
        self.failed: list[str] = []
        self._instances = instances
        self._turns = cycle(instances)

    @asynccontextmanager
    async def running(self, path: str, senders: int) -> AsyncIterator[Self]:
        """Balance for a block, in which each of some senders asks for a path, again and again."""
        limits = httpx.Limits(max_keepalive_connections=senders)
        fresh = httpx.Limits(max_keepalive_connections=0)  # a look is to meet who takes connections now
        async with (
            httpx.AsyncClient(timeout=10, limits=limits) as client,
            httpx.AsyncClient(timeout=PATIENCE, limits=fresh) as looker,
            asyncio.TaskGroup() as tasks,
        ):
            looking = [tasks.create_task(self._look(looker, each)) for each in self._instances]
            await self.until(len(self._instances))
            over = asyncio.Event()
            sending = [tasks.create_task(self._send(client, path, over)) for _ in range(senders)]
            try:
                yield self
            finally:
                over.set()
                await asyncio.wait(sending)
                for task in looking:
                    task.cancel()

    async def until(self, ready: int) -> None:
        """Wait until so many instances are ready."""
        async with asyncio.timeout(30):
            while len(self.ready) != ready:
                await asyncio.sleep(EVERY / 10)

    async def _look(self, client: httpx.AsyncClient, instance: str) -> None:
        while True:
            if await self._is_ready(client, instance):
                self.ready.add(instance)
            else:
                self.ready.discard(instance)
            await asyncio.sleep(EVERY)

    async def _is_ready(self, client: httpx.AsyncClient, instance: str) -> bool:
        try:
            return (await client.get(f"{instance}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _send(self, client: httpx.AsyncClient, path: str, over: asyncio.Event) -> None:
        while not over.is_set():
            instance = next(each for each in self._turns if each in self.ready or not self.ready)
            try:
                response = await client.get(f"{instance}{path}")
            except httpx.TransportError as error:
                self.failed.append(f"{type(error).__name__} of {instance}")
            else:
                if response.status_code == 200:
                    self.answered += 1
                else:
                    self.failed.append(f"{response.status_code} of {instance}")
            await asyncio.sleep(0.01)
