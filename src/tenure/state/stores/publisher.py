"""
Who publishes what a machine has counted, and learns what others have: one of its workers, which others stand in for.

Nobody waits for it: a count is read and added to in memory, whether or not the engine is there.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING

from tenure.errors import StateError, StateUnavailable, TenureError
from tenure.state.stores import host_totals
from tenure.state.stores.host_totals import HostTotals, clock
from tenure.state.stores.totals import CUT_OFF, DAY, KEPT
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tenure.state.stores.host_totals import Turn
    from tenure.state.stores.totals import ClusterNumber, Ledger, Replica, Totals

logger = logging.getLogger("tenure.state")

LOOK = 0.2
"""Seconds between two looks for a counter that is new, and at whether the one who published is gone."""
HOUR = 3600.0
"""Seconds between two times at which replicas that nobody hears of are forgotten."""
PATIENCE = 5.0
"""Seconds that a start waits to learn what others have counted."""
STALE = 2.0
"""Seconds beyond the interval after which what was learned counts as old, at a start."""
_NANO = 1_000_000_000
_POLL = 0.02


class Publisher:
    """
    A worker's part in publishing what its machine has counted.

    It publishes every `interval` seconds while it has the turn, and tries to get it while another has. A machine has
    one turn for each folder, so it has one connection to the engine, however many workers.

    Args:
        folder: Where the machine keeps its totals, as `host_totals.settled` gives it.
        ledger: The engine, to be closed with this; its connection is opened when it is needed.
        interval: Seconds between two publishes.
    """

    def __init__(self, folder: Path, ledger: Ledger, *, interval: float) -> None:
        self._totals = HostTotals(folder, get_ident())
        self._ledger = ledger
        self._interval = interval
        self._turn: Turn | None = None
        self._replica: Replica | None = None
        self._forgets_at = 0.0
        self._news = asyncio.Event()
        self._has_tried = asyncio.Event()
        self._reason: Exception | None = None
        self._task = asyncio.create_task(self._run(), name="tenure: publishing counts")

    async def number(self, name: str) -> ClusterNumber:
        """
        Give the count of a name, once it is known what others have counted.

        While the engine is gone, what was known before it was gone is enough.

        Raises:
            StateUnavailable: It is not known, and cannot be learned; or the totals of this machine cannot be kept.
            StateMismatch: They are kept in a file that is not one of ours.
            StateFull: There is no room for one more process or name.
        """
        number = await in_own_thread(partial(self._totals.number, name))
        self._news.set()
        await self._has_tried.wait()
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        fresh = clock() - int((self._interval + STALE) * _NANO)
        while number.learned < fresh or not number.learned:
            if loop.time() > until or (number.learned and self._reason):
                if number.learned:
                    break
                raise self._unknown(name) from self._reason
            await asyncio.sleep(_POLL)
        return number

    def _unknown(self, name: str) -> StateUnavailable:
        msg = f"what other machines have counted for `{name}` could not be learned within {PATIENCE:g} s"
        if self._reason is not None:
            msg += f": {_said(self._reason)}"
        return StateUnavailable(msg, hint="see that the engine of shared state runs, and is reached from here")

    async def close(self) -> None:
        """Publish what was counted last, if the engine is there, and give the turn back."""
        self._task.cancel()
        await asyncio.wait([self._task])
        try:
            if self._reason is None:
                with suppress(StateError, OSError):
                    await self._exchange()
        finally:
            try:
                await self._ledger.close()
            finally:
                if self._turn is not None:
                    self._turn.end()
                self._totals.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            has_names = bool(self._totals.learned())
            try:
                await in_own_thread(self._look)
                learned = self._totals.learned()
                if self._turn is not None and learned and (loop.time() >= due or not all(learned)):
                    due = loop.time() + self._interval
                    await self._exchange()
                    await self._forget_others()
                    self._say_back()
            except Exception as error:  # noqa: BLE001 (whatever it is, counts are to be published again after it)
                self._say_gone(error)
            if has_names:
                self._has_tried.set()
            pause = min(max(due - loop.time(), 0), LOOK) if self._turn and self._has_tried.is_set() else LOOK
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
            self._news.clear()

    def _look(self) -> None:
        """Find new counters, and take the turn if it is free."""
        self._totals.discover()
        if self._turn is None:
            self._turn = host_totals.take_turn(self._totals.folder)
            self._replica = None

    async def _exchange(self) -> None:
        """Publish, and learn; who has not the turn only publishes."""
        if self._turn is None or self._replica is None:  # without the turn, another may have begun a new one
            self._replica = await in_own_thread(self._totals.replica)
        replica = self._replica
        if replica is None:
            return
        at = clock()
        held = self._totals.held()
        last = max(self._totals.learned())
        if last and at - last > CUT_OFF * _NANO:
            if self._turn is None:
                return  # whoever has it begins anew
            self._replica = replica = await self._begin_anew(replica, held)
        standings = await self._ledger.exchange(replica.name, replica.published(held))
        if self._turn is not None:
            others = {name: replica.others(name, standing) for name, standing in standings.items()}
            self._totals.learn(others, at)

    async def _begin_anew(self, replica: Replica, held: dict[str, Totals]) -> Replica:
        """Leave what was counted to the replica that the engine may have forgotten, so that it never counts twice."""
        successor = replica.successor(held)
        await in_own_thread(partial(self._totals.keep, successor))
        message = "this machine could not publish its counts for %.0f days: others will not learn what it counted then"
        logger.error(message, CUT_OFF / DAY, extra={"tenure_event": "counts-unpublished"})
        return successor

    async def _forget_others(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._forgets_at:
            self._forgets_at = now + HOUR
            await self._ledger.forget(KEPT)

    def _say_gone(self, error: Exception) -> None:
        if self._reason is None:
            is_known = isinstance(error, StateError | OSError)
            message = "counters count on, without what other machines count meanwhile: %s"
            logger.warning(
                message, _said(error), exc_info=None if is_known else error, extra={"tenure_event": "counts-apart"}
            )
        self._reason = error

    def _say_back(self) -> None:
        if self._reason is not None:
            logger.warning("counters have what other machines count again", extra={"tenure_event": "counts-together"})
        self._reason = None


def _said(error: Exception) -> str:
    return error.message if isinstance(error, TenureError) else str(error)


class ClusterCounts:
    """
    The counts that an app shares with other machines.

    Args:
        url: Where: the address of a Valkey, a Redis or a PostgreSQL.
        deployment: With whom.
    """

    def __init__(self, url: str, deployment: str) -> None:
        self._url = url
        self._deployment = deployment
        self._publishers: dict[float, Publisher] = {}
        self._opening = asyncio.Lock()

    async def number(self, name: str, interval: float) -> ClusterNumber:
        """
        Give the count of a name, which is published every `interval` seconds.

        Raises:
            StateUnavailable: The engine is not there, and nothing is known of what others have counted; or the totals
                of this machine cannot be kept.
            StateMismatch: They are kept in a file that is not one of ours.
            StateFull: There is no room for one more process or name.
        """
        async with self._opening:
            if interval not in self._publishers:
                folder = await in_own_thread(partial(host_totals.settled, self._deployment, self._url, interval))
                self._publishers[interval] = Publisher(folder, self._ledger(), interval=interval)
        return await self._publishers[interval].number(name)

    def _ledger(self) -> Ledger:
        # Of the two engines' packages, one need not be installed.
        if self._url.startswith(("postgresql:", "postgres:")):
            from tenure.state.stores.totals_postgres import PostgresLedger  # noqa: PLC0415

            return PostgresLedger(self._url, deployment=self._deployment)
        from tenure.state.stores.totals_valkey import ValkeyLedger  # noqa: PLC0415

        return ValkeyLedger(self._url, deployment=self._deployment)

    async def close(self) -> None:
        """Publish what was counted last, and end the connections."""
        async with asyncio.TaskGroup() as group:
            for publisher in self._publishers.values():
                group.create_task(publisher.close())


@asynccontextmanager
async def cluster_counts(url: str, deployment: str) -> AsyncGenerator[ClusterCounts]:
    """Share counts with other machines while the block runs."""
    counts = ClusterCounts(url, deployment)
    try:
        yield counts
    finally:
        await counts.close()
