"""The places of a pool: who has one, who waits for one and how long, and what would wait for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenure.observers import observer
from tenure.origin import Origin
from tenure.pools.errors import NestedBorrow, PoolExhausted, Unreachable
from tenure.pools.sites import route_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenure.pools.sites import Site

SHOWN_HOLDERS = 12


@dataclass(eq=False, slots=True)
class Loan:
    """
    One connection that is out.

    Attributes:
        site: Where it was asked for.
        task: Who asked.
        asked: When it was asked for, in seconds of the event loop's clock.
        since: When there was a place for it.
        lent: When the borrower had it; nothing until then.
        connection: What was lent, once it is there.
        deadline: When the opening of it is given up, while it is opened.
        waits: How many borrowers that hold it wait for another one.
        is_reported: Whether it was told that it has been out for too long.
    """

    site: Site
    task: asyncio.Task[Any] | None
    asked: float
    since: float
    lent: float | None = None
    connection: Any = None
    deadline: asyncio.Timeout | None = None
    waits: int = 0
    is_reported: bool = False

    def told(self, now: float) -> str:
        """Say who holds it, since when and from where, in one line."""
        return f"out for {now - self.since:.1f} s: {route_of(self.task)}, borrowed at {shown(self.site)}"


class Places:
    """
    As many places as a pool may have connections. Belongs to the process and event loop in which it is made.

    Those who wait are served in the order in which they came, but that who holds a place already comes first: it is
    nearer to giving back.

    Attributes:
        name: What the pool is called.
        size: How many places there are.
        loans: Those that are taken.
        refused: How many borrowers were told that none was free.
        observers: Who is told of waits and uses.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.loans: set[Loan] = set()
        self.refused = 0
        self._origin = Origin()
        self._loop = self._origin.loop
        self.observers = observer()
        self._free = size
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._emptied: asyncio.Future[None] | None = None

    async def emptied(self, timeout: float) -> None:
        """Wait until nobody has a place, for at most `timeout` seconds."""
        if self.loans:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=timeout)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(not waiter.done() for waiter in tuple(self._waiters))  # which another thread may ask for

    async def take(self, site: Site, *, timeout: float, holding: Loan | None = None) -> Loan:
        """
        Take a place, waiting for one for at most `timeout` seconds.

        Args:
            site: Where it is asked for.
            timeout: Seconds.
            holding: What the same borrower holds meanwhile, if it does.

        Raises:
            PoolExhausted: None was free in time.
            NestedBorrow: All who hold one wait for another: it would never be free.
            Unreachable: `refuse_waiters` was called meanwhile.
            OtherProcess: This is not the process that made it: a connection is never used by two.
            OtherLoop: This is not the event loop that made it.
        """
        self._refuse_elsewhere()
        asked = since = self._loop.time()
        if self._free > 0:
            self._free -= 1
        else:
            try:
                await self._wait_among_others(timeout, holding)
            except BaseException as error:
                self.observers.waited(self.name, self._loop.time() - asked, error)
                raise
            since = self._loop.time()
        loan = Loan(site, asyncio.current_task(), asked, since)
        self.loans.add(loan)
        return loan

    def lent(self, loan: Loan) -> None:
        """Note that a borrower has what it asked for; from any thread."""
        if loan.lent is None:
            loan.lent = self._loop.time()
            self.observers.waited(self.name, loan.lent - loan.asked, None)

    def give_back(self, loan: Loan, error: BaseException | None = None) -> None:
        """Free the place of a loan, once; the next who waits has it. `error` is why there was no connection for it."""
        if loan in self.loans:
            self.loans.remove(loan)
            self._pass_on()
            if self._emptied is not None and not self.loans and not self._emptied.done():
                self._emptied.set_result(None)
            self._told_of(loan, error)

    def _told_of(self, loan: Loan, error: BaseException | None) -> None:
        now = self._loop.time()
        if loan.lent is None:
            self.observers.waited(self.name, (now if error is not None else loan.since) - loan.asked, error)
        if error is None:  # of who used its place for no connection too, which nobody else could have
            self.observers.used(self.name, now - (loan.since if loan.lent is None else loan.lent))

    def refuse_waiters(self, error: Unreachable) -> None:
        """Let all who wait raise this."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters.clear()

    def refuse_other_process(self) -> None:
        """
        Refuse what would use connections that another process uses; from any thread.

        Raises:
            OtherProcess: This is not the process that made it.
        """
        self._origin.refuse_other_process(self.name, "pool ")

    def held(self) -> list[str]:
        """Say who holds a place, longest first, a line each."""
        now = asyncio.get_running_loop().time()
        lines = [loan.told(now) for loan in _oldest_first(self.loans)]
        rest = len(lines) - SHOWN_HOLDERS
        return lines if rest <= 0 else [*lines[:SHOWN_HOLDERS], f"and {rest} more"]

    async def _wait_among_others(self, timeout: float, holding: Loan | None) -> None:
        if holding is None:
            await self._wait(timeout, first=False)
            return
        self._refuse_deadlock(holding)
        holding.waits += 1
        try:
            await self._wait(timeout, first=True)
        finally:
            holding.waits -= 1

    async def _wait(self, timeout: float, *, first: bool) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiters.appendleft if first else self._waiters.append)(place)
        try:
            async with asyncio.timeout(timeout):
                await place
        except BaseException as failure:
            if not place.done():
                place.cancel()
            elif not place.cancelled() and place.exception() is None:
                self._pass_on()  # it came in the moment in which the wait ended
            if isinstance(failure, TimeoutError):
                self.refused += 1
                raise self._exhausted(timeout) from None
            raise

    def _pass_on(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _refuse_elsewhere(self) -> None:
        self.refuse_other_process()
        self._origin.refuse_other_loop(self.name, "pool ")

    def _refuse_deadlock(self, holding: Loan) -> None:
        stuck = {loan.task for loan in self.loans if loan.waits or loan is holding} - {None}
        if all(loan.waits or loan is holding or loan.task in stuck for loan in self.loans):
            self.refused += 1
            msg = (
                f"a second connection of pool `{self.name}` was asked for while the first is held, "
                "and all who hold one wait for another"
            )
            hint = "use the one that is held, or give it back before another is borrowed"
            raise NestedBorrow(msg, path=self.held(), hint=hint)

    def _exhausted(self, timeout: float) -> PoolExhausted:
        return PoolExhausted(
            f"no connection of pool `{self.name}` was free within {timeout:g} s: all {self.size} are out",
            path=self.held(),
            hint="give connections back sooner, for a wait for something else above all; or give the pool more",
        )


def _oldest_first(loans: Iterable[Loan]) -> list[Loan]:
    return sorted(loans, key=lambda loan: loan.since)
