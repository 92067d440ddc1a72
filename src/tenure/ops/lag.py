"""How late an event loop is: what holds it up holds up all that it serves."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LOOK = 0.25
"""Seconds between two looks."""
REMEMBERED = 10.0
"""Seconds for which a delay is remembered, so that who asks now and then learns of it."""


class Lag:
    """The delays of one event loop in the last ten seconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._delays: deque[tuple[float, float]] = deque(maxlen=round(REMEMBERED / LOOK))

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Look, for a block."""
        watching = asyncio.create_task(self._watch(), name="tenure: watches the event loop")
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            self._due = self._loop.time() + LOOK
            await asyncio.sleep(LOOK)
            now = self._loop.time()
            self._delays.append((now, now - self._due))

    @property
    def worst(self) -> float:
        """The longest delay of the last ten seconds, in seconds."""
        since = self._loop.time() - REMEMBERED
        return max((delay for when, delay in self._delays if when >= since), default=0.0)
