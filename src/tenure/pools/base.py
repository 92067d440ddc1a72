"""What all pools are, whatever connections they lend: places, a watch over them, and what borrowers are told."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar

from tenure.cancellation import uninterrupted
from tenure.checks import Check, Degraded
from tenure.errors import AlreadyClosed
from tenure.pools.errors import NestedBorrow, PoolExhausted, Unreachable
from tenure.pools.places import Places
from tenure.pools.stats import PoolStats
from tenure.pools.watch import Watch, tell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tenure.pools.errors import Unavailable
    from tenure.pools.places import Loan
    from tenure.pools.sites import Site

logger = logging.getLogger("tenure")

CHECK = 1.0
"""Seconds that a connection has to answer when it is checked before use."""

QUIET = 4.0
"""Seconds without an answer to anyone after which a health check asks the server itself: less than its period."""


class Times(Protocol):
    """The times that the settings of every pool have, in seconds."""

    @property
    def acquire_timeout(self) -> float:
        """How long a borrower waits for a connection."""
        ...

    @property
    def release_timeout(self) -> float:
        """How long giving one back may take."""
        ...

    @property
    def leak_after(self) -> float:
        """How long one may be out before that is logged."""
        ...


S = TypeVar("S", bound=Times)


class BasePool(ABC, Generic[S]):
    """
    Connections of which none is waited for without end. Belongs to one app, process and event loop.

    Attributes:
        name: What logs and errors call it.
        settings: What it is like.
        is_closed: Whether its app has closed it.
    """

    noun: ClassVar[str] = "pool"

    def __init__(self, name: str, settings: S, size: int) -> None:
        self.name = name
        self.settings = settings
        self.is_closed = False
        self._places = Places(name, size)
        self._watch = Watch(self._places, self._probe, self._end, settings.leak_after)
        self._loop = asyncio.get_running_loop()
        self._told: dict[type, float] = {}
        self._heard = self._loop.time()
        self._killed = 0

    @property
    def stats(self) -> PoolStats:
        """How the pool is doing."""
        return PoolStats(
            size=self._places.size,
            open=self._count(),
            in_use=len(self._places.loans),
            waiting=self._places.waiting,
            refused=self._places.refused,
            killed=self._killed,
            leaked=self._watch.reported,
        )

    def holders(self) -> list[str]:
        """Say who holds a connection: since when, for which request, borrowed at which line; longest first."""
        return self._places.held()

    async def check(self) -> Degraded | None:
        """
        Tell whether the pool can lend, for a health check: it has none of the connections that others wait for.

        The server is asked, on a connection that is not the pool's, if nobody has been answered for some seconds.

        Raises:
            Unreachable: The server is silent, or does not let anyone in.
            AlreadyClosed: The app has closed the pool.
        """
        self._refuse_now()
        if self._loop.time() - self._heard > QUIET:
            try:
                await self._probe()
            except Exception as error:
                raise self.unreachable(error) from error
            self.heard()
        waiting = self._places.waiting
        return Degraded(f"{waiting} wait for one of {self._places.size} connections") if waiting else None

    def refuse_closed(self) -> None:
        """
        Refuse what comes after the close.

        Raises:
            AlreadyClosed: The app has closed the pool.
        """
        if self.is_closed:
            msg = f"{self.noun} `{self.name}` was used after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")

    def refuse(self) -> None:
        """
        Refuse to lend anything where, or while, nothing can be lent; from any thread.

        Raises:
            OtherProcess: The pool belongs to another process.
            AlreadyClosed: The app has closed the pool.
            Unreachable: The server is known to be silent.
        """
        self._places.refuse_other_process()
        self._refuse_now()

    def _refuse_now(self) -> None:
        self.refuse_closed()
        self._watch.check()

    async def place(self, site: Site, *, timeout: float | None = None, holding: Loan | None = None) -> Loan:
        """
        Wait for a place in the pool; `holding` is what the borrower has already.

        Raises:
            PoolExhausted: None was free in time.
            NestedBorrow: All who have one wait for another.
            Unreachable: The server is known to be silent.
            AlreadyClosed: The app has closed the pool.
            OtherProcess: The pool belongs to another process.
            OtherLoop: It belongs to another event loop.
        """
        self._refuse_now()
        allowed = self.settings.acquire_timeout if timeout is None else timeout
        try:
            loan = await self._places.take(site, timeout=allowed, holding=holding)
        except (NestedBorrow, PoolExhausted) as error:
            self._log(error, logging.ERROR)
            raise
        try:
            self._refuse_now()  # as may be so since the wait began
        except BaseException as error:
            self._places.give_back(loan, error)
            raise
        return loan

    def heard(self) -> None:
        """Note that the server has answered."""
        self._heard = self._loop.time()
        self._watch.heard()

    def unreachable(self, error: BaseException) -> Unreachable:
        """Say that the server is away, by what the driver says."""
        if self._watch.is_down:
            return self._watch.silent()
        reason = str(error) or f"no answer in time ({type(error).__name__})"
        return Unreachable(f"the server of pool `{self.name}` cannot be used: {reason}")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """
        Open the pool for a block, and look after it; what is out at its end is waited for a little, named and ended.

        Raises:
            Unreachable: The server cannot be used.
        """
        watching = asyncio.create_task(self._watch.run(), name=f"tenure: watches {self.noun} {self.name}")
        try:
            self._places.observers.opened(self)
            await self._open()
            yield self
        finally:
            self._places.observers.closed(self)
            watching.cancel()
            await self._shut_down()

    async def _shut_down(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            await uninterrupted(self._closing())

    async def _closing(self) -> None:
        await self._places.emptied(self.settings.release_timeout / 2)
        left = list(self._places.loans)
        for loan in left:
            tell(self.name, loan, self._loop.time())
        await self._close(left)

    def _log(self, error: Unavailable, level: int) -> None:
        now = self._loop.time()
        if now - self._told.get(type(error), now - 1) >= 1:  # once a second: each would take the time that is missing
            self._told[type(error)] = now
            logger.log(level, "%s", error, extra={"tenure_event": error.code, "tenure_pool": self.name})

    def _is_trusted(self, used: float | None, check_after: float) -> bool:
        """Tell whether a connection needs no check: it is new, or was used just now, and not before a silence."""
        return used is None or (self._loop.time() - used < check_after and used >= self._watch.up_since)

    def _give_up(self, loan: Loan) -> None:
        """End the opening of a connection, if one is opened for a loan."""
        if loan.connection is None and loan.deadline is not None and not loan.deadline.expired():
            loan.deadline.reschedule(self._loop.time())

    @abstractmethod
    def _count(self) -> int:
        """Tell how many connections there are."""

    @abstractmethod
    async def _open(self) -> None:
        """Make the first connections."""

    @abstractmethod
    async def _close(self, left: list[Loan]) -> None:
        """Close all connections, and end those that are left out."""

    @abstractmethod
    async def _probe(self) -> None:
        """Ask the server anything, on a connection of its own."""

    @abstractmethod
    def _end(self, loan: Loan) -> None:
        """End a loan's connection, so that who waits for an answer on it waits no longer."""


def check_of(name: str) -> Check:
    """Give the health check that a pool of this name comes with."""
    return Check(name, BasePool.check, timeout=2, is_built_in=True)
