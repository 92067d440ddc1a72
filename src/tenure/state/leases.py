"""A lock for a time, held for longer by renewing it: what `Lock` and the loads of `Cache` stand on."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from tenure.cancellation import uninterrupted
from tenure.errors import StateError
from tenure.state.stores.memory_engine import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenure.state.engine import Engine

logger = logging.getLogger("tenure")

RENEWED_AFTER = 1 / 3
"""The part of a lease after which it is renewed."""

TRIED_AGAIN_AFTER = 1 / 20
"""The part of a lease after which a renewal that was not answered is tried again."""

FIRST_DELAY, LONGEST_DELAY = 0.005, 0.1
"""Seconds between two attempts to take what another process has."""


class Lease:
    """
    One attempt to hold a lock, and the holding of it.

    Attributes:
        token: Above all that were given before; 0 until it is taken.
        expires: Until when it is surely held, in seconds of the event loop.
        is_lost: Whether it is known to have run out; see `is_over`.
        on_loss: Called once when it is lost.
    """

    def __init__(self, engine: Engine, name: str, seconds: float) -> None:
        self._engine = engine
        self._name = name
        self._seconds = seconds
        self._holder = uuid4().hex
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.token = 0
        self.expires = 0.0
        self.is_lost = False
        self.on_loss: Callable[[], None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it ran out, so that another may have the lock."""
        return self.is_lost or self._loop.time() >= self.expires

    async def take(self) -> bool:
        """Take the lock if it is free, and hold it from now on."""
        began = self._loop.time()
        token = await self._engine.acquire(self._name, holder=self._holder, lease=self._seconds)
        if token is None:
            return False
        self.token, self.expires = token, began + self._seconds
        # A task only for those that hold it for long.
        self._timer = self._loop.call_later(self._seconds * RENEWED_AFTER, self._begin_renewing)
        return True

    def _begin_renewing(self) -> None:
        self._renewing = self._loop.create_task(self._renew(), name=f"tenure: renews {self._name}")

    async def _renew(self) -> None:
        while not self.is_lost:
            began = self._loop.time()
            match await self._renewed():
                case True:
                    self.expires = began + self._seconds
                    await asyncio.sleep(self._seconds * RENEWED_AFTER)
                case None if self._loop.time() < self.expires:
                    left = self.expires - self._loop.time()
                    await asyncio.sleep(min(left, self._seconds * TRIED_AGAIN_AFTER))
                case _:
                    self._lose()

    async def _renewed(self) -> bool | None:
        """Tell whether it is still held; nothing, if that is not known: whatever the reason, it is tried again."""
        try:
            async with asyncio.timeout_at(self.expires):
                return await self._engine.renew(self._name, holder=self._holder, lease=self._seconds)
        except Exception as error:  # noqa: BLE001 (an engine that is full, or goes, may have room, or be there, in time)
            logger.debug(
                "%s was not renewed: %r",
                self._name,
                error,
                extra={"tenure_event": "lease-not-renewed", "tenure_state": self._name},
            )
            return None

    def _lose(self) -> None:
        self.is_lost = True
        if self.on_loss is not None:
            self.on_loss()

    async def give_back(self) -> None:
        """Hold it no longer, whether it was taken or not; not even a cancellation cuts this short."""
        self.on_loss = None
        if self._timer is not None:
            self._timer.cancel()
        if self._renewing is None and isinstance(self._engine, MemoryEngine):
            await self._give_back()  # which waits for nothing, so that nothing can cut it short
        else:
            await uninterrupted(self._give_back())

    async def _give_back(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        try:
            await self._engine.release(self._name, holder=self._holder)
        except StateError as error:
            logger.warning(
                "%s is given back when its lease of %g s ends: %s",
                self._name,
                self._seconds,
                error.message,
                extra={"tenure_event": "lease-not-released", "tenure_state": self._name},
            )
