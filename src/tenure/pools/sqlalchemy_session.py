"""SQLAlchemy's sessions, for one task or one place in the pool, and over when their handler or block is."""

from __future__ import annotations

import asyncio
import functools
import logging
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import psycopg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tenure.cancellation import uninterrupted
from tenure.errors import AlreadyClosed
from tenure.pools.errors import ConcurrentUse, Unreachable
from tenure.pools.sites import Site, shown, site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from sqlalchemy import Connection

    from tenure.pools.places import Loan
    from tenure.pools.sqlalchemy_sync import SyncEnginePool

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("tenure")

asked_at: ContextVar[Site] = ContextVar("tenure_asked_at", default=())
"""Where the program has called the session's method that runs."""


class TaskSession(AsyncSession):
    """
    A session that one task uses at a time, as SQLAlchemy's must be; what else it is asked for is refused in words.

    Raises:
        ConcurrentUse: Another task uses it at this moment.
        AlreadyClosed: The request's handler, or the block that it was opened for, has ended.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (SQLAlchemy's)
        super().__init__(*args, **options)
        self._user: asyncio.Task[Any] | None = None
        self._site: Site = ()
        self._free = asyncio.Event()
        self._is_over = False

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Roll back what is not committed, give the connection back, and refuse what comes later."""
        self._is_over = True
        if self._user is None and not self.in_transaction():  # it has no connection
            self.sync_session.close()
            return
        await uninterrupted(self._rolled_back())

    async def _rolled_back(self) -> None:
        while self._user is not None:  # a task that nobody waits for: its statement has a deadline
            await self._free.wait()
        await self.close()

    async def close(self) -> None:
        """Roll back what is not committed, and give the connection back; where the server is away, it has done so."""
        try:
            await super().close()
        except Unreachable as error:
            logger.warning(
                "a session could not roll back; the server has done it: %s",
                error.message,
                extra={"tenure_event": "rollback-failed"},
            )

    @contextmanager
    def used(self, where: Site) -> Generator[None]:
        """Use it for a block, unless it is over or in use; one method calls another."""
        task = asyncio.current_task()
        if self._user is task:
            yield
            return
        if self._is_over:
            raise _over()
        if self._user is not None:
            raise _shared(self._site, where)
        self._user, self._site = task, where
        self._free.clear()
        asking = asked_at.set(where)
        try:
            yield
        finally:
            asked_at.reset(asking)
            self._user = None
            self._free.set()


def _over() -> AlreadyClosed:
    msg = "a session was used after its handler or block had ended"
    return AlreadyClosed(
        msg,
        hint="where the answer is under way, open one for each use: take `sessions: Depends(database.sessions)`, "
        "and `async with sessions() as session`",
    )


def _shared(first: Site, second: Site) -> ConcurrentUse:
    msg = "two tasks use one session at once"
    return ConcurrentUse(
        msg,
        path=[f"in use at {shown(first)}", f"used at {shown(second)}"],
        hint="await one after the other; or let each open its own: take `sessions: Depends(database.sessions)`, "
        "and `async with sessions() as session`",
    )


def _by_one_task(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @functools.wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        where = site()  # here, for a task that is made of the call alone has no line of the program in it
        return running(where, *args, **kwargs)

    async def running(where: Site, /, *args: P.args, **kwargs: P.kwargs) -> T:
        session: Any = args[0]
        with session.used(where):
            return await method(*args, **kwargs)

    return called


for _name in (
    "commit",
    "connection",
    "delete",
    "execute",
    "flush",
    "get",
    "get_one",
    "merge",
    "refresh",
    "rollback",
    "run_sync",
    "scalar",
    "scalars",
    "stream",
    "stream_scalars",
):
    setattr(TaskSession, _name, _by_one_task(getattr(AsyncSession, _name)))


class ThreadSession(Session):
    """
    A session for threads, on the one connection of a place that was waited for in the event loop.

    Raises:
        AlreadyClosed: The request's handler, or the block that it was opened for, has ended.
    """

    def __init__(self, pool: SyncEnginePool, loan: Loan) -> None:
        super().__init__(expire_on_commit=False)
        self._pool = pool
        self._loan = loan
        self._is_over = False
        self._connected: Connection | None = None

    @property
    def is_connected(self) -> bool:
        """Whether it has used the database."""
        return self._connected is not None

    def get_bind(self, *_: Any, **__: Any) -> Connection:  # noqa: ANN401 (what SQLAlchemy would choose an engine by)
        """Give its connection, taken now if this is the first use of it."""
        self._refuse()
        if self._connected is None or self._connected.invalidated:
            with self._pool.lending(self._loan):
                connection = self._pool.engine.connect()
            if self._is_over:  # meanwhile
                connection.close()
                self._refuse()
            self._connected = connection
        return self._connected

    def _refuse(self) -> None:
        if self._is_over:
            msg = f"a session of pool `{self._pool.name}` was used after its handler or block had ended"
            raise AlreadyClosed(
                msg,
                hint="where the answer is under way, `await pool.run(function)`, with `pool: Depends(database.pool)`",
            )

    def commit_and_end(self) -> None:
        """Commit, and give the connection back."""
        try:
            self.flush()
            if self._connected is not None and not self._connected.invalidated:
                self._pool.expect_answer(self._connected)
            self.commit()
        finally:
            self.end(is_abandoned=False)

    def end(self, *, is_abandoned: bool) -> None:
        """
        Roll back what is not committed, and give the connection back.

        Where a thread may be using it still, what it does there is cancelled, and the connection is given up.
        """
        self._is_over = True
        connection, driver = self._connected, self._loan.connection
        try:
            if is_abandoned and driver is not None:
                with suppress(psycopg.Error):
                    driver.cancel_safe(timeout=self._pool.settings.release_timeout)
                    driver.rollback()  # waits for the thread's statement to end
            if is_abandoned and connection is not None:
                connection.invalidate()
            self.close()
        except (SQLAlchemyError, Unreachable) as error:
            logger.warning(
                "a session could not roll back; the server has done it: %r",
                error,
                extra={"tenure_event": "rollback-failed", "tenure_pool": self._pool.name},
            )
        finally:
            if connection is not None:
                connection.close()
