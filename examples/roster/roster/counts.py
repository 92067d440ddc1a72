"""The count of requests, by all workers of this machine, and the news of it to whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends

from tenure import Counter, Missed, Topic, scoped
from tenure.errors import StateUnavailable

PAUSE = 0.1
"""Seconds that a worker waits between two announcements, so that many requests cost one."""
RETRY = 1.0
"""Seconds until it tries again where it could not announce."""

requests = Counter("requests", scope="host")
Requests = Annotated[Counter, Depends(requests)]

counts = Topic("counts", scope="host", type=int)
Counts = Annotated[Topic[int], Depends(counts)]


class Announcer:
    """Tells all workers of the count when this one has added to it; no request waits for that."""

    def __init__(self) -> None:
        self._added = asyncio.Event()

    def note(self) -> None:
        """Say that something was added."""
        self._added.set()

    async def announce(self, requests: Counter, counts: Topic[int]) -> None:
        """Announce what is added from now on: the first at once, what follows once in a tenth of a second."""
        while True:
            await self._added.wait()
            self._added.clear()
            try:
                await counts.publish(requests.value)
            except StateUnavailable:  # who watches hears of it by `MISSED`; this is for after it
                self._added.set()
                await asyncio.sleep(RETRY)
            else:
                await asyncio.sleep(PAUSE)


@scoped("app")
async def announcer(requests: Requests, counts: Counts) -> AsyncIterator[Announcer]:
    """
    Announce in the background what this worker adds.

    Each worker speaks for itself: none has to be chosen, and none is missed when it is killed.
    """
    announcer = Announcer()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(announcer.announce(requests, counts))
        yield announcer
        task.cancel()


Announcing = Annotated[Announcer, Depends(announcer)]


async def news(counts: Counts) -> AsyncIterator[AsyncIterator[int | Missed]]:
    """Subscribe for one request, before its answer begins: where that fails, it can still be told."""
    async with counts.subscribe() as messages:
        yield messages


News = Annotated[AsyncIterator[int | Missed], Depends(news)]
