"""What looks after a pool while it runs: connections that are out for too long, and a server that has gone silent."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tenure.pools.errors import Unreachable
from tenure.pools.sites import route_of, traced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenure.pools.places import Loan, Places

logger = logging.getLogger("tenure")

LOOK = 0.25
"""Seconds between two looks."""
PATIENCE = 1.0
"""Seconds without an answer to anyone after which the server is asked whether it is there."""
ANSWER = 1.0
"""Seconds that it has to answer."""
ANSWER_WHEN_DOWN = 5.0
"""The same once it has failed to: it may be slow when it is back."""
ASKED_AT_ONCE = 8
"""How often it is asked at the same time while it is silent, so that its return is seen soon all the same."""
STALL = 0.3
"""Seconds by which the event loop may be late before a missing answer is put down to that, and asked for again."""


class Watch:
    """
    Tells silence from slowness, and ends what waits for a server that is silent.

    A statement may take long. When nobody has had an answer for a second, though connections are out, the server is
    asked something that takes no time. If it says nothing, all who wait for it are ended, and from then on everyone is
    refused at once until it answers again: for 2.5 seconds at most does anyone wait for a silent server.

    Args:
        places: Who has a connection.
        probe: Asks the server anything, on a connection of its own, and returns when it has answered.
        end: Ends a loan's connection, so that who waits for an answer on it waits no longer.
        leak_after: Seconds after which a loan is reported, once, with its stack.
    """

    def __init__(
        self, places: Places, probe: Callable[[], Awaitable[None]], end: Callable[[Loan], None], leak_after: float
    ) -> None:
        self._places = places
        self._probe = probe
        self._end = end
        self._leak_after = leak_after
        self._loop = asyncio.get_running_loop()
        self.is_down = False
        self._asking: set[asyncio.Task[None]] = set()
        self.answered = self.up_since = self._loop.time()
        self.reported = 0

    def heard(self) -> None:
        """Note that the server has answered someone."""
        self.answered = self._loop.time()

    def check(self) -> None:
        """
        Refuse to borrow while the server is known to be silent.

        Raises:
            Unreachable: It is.
        """
        if self.is_down:
            raise self.silent()

    def silent(self) -> Unreachable:
        """Give the error that says so."""
        return Unreachable(
            f"the server of pool `{self._places.name}` is silent",
            hint="see that it runs, and that the network lets its packets through; it is asked again all the time",
        )

    async def run(self) -> None:
        """Look, until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK)
                try:
                    await self._look()
                except Exception:  # who borrows relies on it for as long as the pool is there
                    logger.exception(
                        "the watch of pool %s goes on, although it has failed",
                        self._places.name,
                        extra={"tenure_event": "watch-failed", "tenure_pool": self._places.name},
                    )
        finally:
            self._stop_asking()

    async def _look(self) -> None:
        self._report()
        if self.is_down:
            self._ask_again()
        elif self._is_doubtful():
            await self._ask()

    def _is_doubtful(self) -> bool:
        now = self._loop.time()
        return now - self.answered > PATIENCE and any(now - loan.since > PATIENCE for loan in self._places.loans)

    async def _ask(self) -> None:
        asked = self._loop.time()
        if await self._is_answered(ANSWER):
            self.heard()
            return
        is_stalled = self._loop.time() - asked > ANSWER + STALL
        if not is_stalled and self.answered < asked:
            self._went_silent()

    async def _is_answered(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._probe()
        except TimeoutError:
            return False
        except Exception:  # noqa: BLE001 (whatever it said, or whoever refused: nobody waits for that)
            return True
        return True

    def _ask_again(self) -> None:
        if len(self._asking) < ASKED_AT_ONCE:
            asking = self._loop.create_task(self._asked_again(), name=f"tenure: asks for {self._places.name}")
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _asked_again(self) -> None:
        if await self._is_answered(ANSWER_WHEN_DOWN) and self.is_down:
            self.heard()
            self.is_down, self.up_since = False, self._loop.time()
            logger.warning(
                "the server of pool %s answers again",
                self._places.name,
                extra={"tenure_event": "server-answers", "tenure_pool": self._places.name},
            )
            self._stop_asking()

    def _stop_asking(self) -> None:
        for asking in self._asking - {asyncio.current_task()}:
            asking.cancel()

    def _went_silent(self) -> None:
        self.is_down = True
        loans = list(self._places.loans)
        logger.error(
            "the server of pool %s is silent: %d who wait for it are refused",
            self._places.name,
            len(loans),
            extra={"tenure_event": "server-silent", "tenure_pool": self._places.name, "tenure_count": len(loans)},
        )
        for loan in loans:
            self._end(loan)
        self._places.refuse_waiters(self.silent())

    def _report(self) -> None:
        now = self._loop.time()
        for loan in list(self._places.loans):
            if not loan.is_reported and now - loan.since > self._leak_after:
                loan.is_reported = True
                self.reported += 1
                tell(self._places.name, loan, now)


def tell(name: str, loan: Loan, now: float) -> None:
    """Report a loan that is out for too long, with its stack."""
    seconds, route = now - loan.since, route_of(loan.task)
    logger.warning(
        "a connection of pool %s is out for %.1f s, for %s; it was borrowed at\n%s",
        name,
        seconds,
        route,
        traced(loan.site),
        extra={
            "tenure_event": "connection-leaked",
            "tenure_pool": name,
            "tenure_seconds": seconds,
            "tenure_route": route,
        },
    )
