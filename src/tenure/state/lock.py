"""`Lock`: one holder at a time, with a lease that ends if it dies and a token that tells a late one from the next."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import asynccontextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from tenure.calls import place
from tenure.errors import DeclarationError, LockLost, LockTimeout, NotReentrant
from tenure.state.engine_handles import EngineHandle
from tenure.state.handles import positive
from tenure.state.leases import FIRST_DELAY, LONGEST_DELAY, Lease
from tenure.state.stores import LONGEST_TTL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from tenure.scopes import ScopeName
    from tenure.state.engine import Engine


class Held:
    """
    A lock that is held by the block around.

    Attributes:
        token: A number above those of all holders before. What it guards can refuse a lower one, and so a holder that
            comes too late.
    """

    def __init__(self, lease: Lease, description: str) -> None:
        self._lease = lease
        self._description = description
        self.token = lease.token

    @property
    def lost(self) -> bool:
        """Whether the lease has run out, so that another may hold the lock."""
        return self._lease.is_over

    def check(self) -> None:
        """
        Refuse to go on without the lock: ask before what cannot be undone.

        Raises:
            LockLost: The lease has run out.
        """
        if self.lost:
            raise lost(self._description)


def lost(description: str) -> LockLost:
    """Say what became of a lock."""
    hint = "begin anew; let what it guards refuse tokens below the newest; make `lease` longer than the pauses here"
    return LockLost(f"{description} was lost: its lease ran out before it was renewed", hint=hint)


class Turn:
    """Who holds a lock in this process: the task, since when, and the line that took it."""

    def __init__(self, task: asyncio.Task[Any] | None, site: tuple[str, int]) -> None:
        self.task = task
        self.began = asyncio.get_running_loop().time()
        self._site = site

    def __str__(self) -> str:
        seconds = asyncio.get_running_loop().time() - self.began
        name = self.task.get_name() if self.task else "a callback"
        return f"held for {seconds:.0f} s by the task `{name}`, at {place(*self._site)}"


class Lock(EngineHandle["Lock"]):
    """
    Lets one in at a time: ``async with lock.hold() as held:``.

    Declared once, at module level, and injected as itself: ``Annotated[Lock, Depends(nightly)]``. For `async` code.

    At ``scope="app"`` there is one holder in the process and event loop of a running app; who asks first is next. At
    ``scope="host"`` there is one among all workers of this machine, at ``scope="cluster"`` among all machines; those of
    one process take turns in order, and processes in no order.

    It is held for a lease, which is renewed while the block runs. If its process dies or hangs, the lease runs out and
    the next may have it. A holder that comes back after that, from a long pause, has lost it: its block is cancelled
    and `LockLost` raised. Until the event loop gets to that, two may run: what must not happen then is guarded by the
    token, which rises from holder to holder, or by `held.check()` just before. It is the same at ``scope="app"``, so
    that a block which holds up the event loop for longer than its lease is found before the word is changed.

    An engine that forgets, a Valkey that is killed, forgets who holds what: until the holder renews, a third of its
    lease, another may have the lock as well. The token rises even then. PostgreSQL forgets no lock that it has granted.

    It is not reentrant: who holds it and asks again is refused.

    Args:
        name: What logs and errors call it; unique within an app, without colons, at most 120 bytes.
        scope: Who shares it.
        lease: Seconds that it is held without being renewed; it is renewed after a third of that.

    Raises:
        DeclarationError: The name, scope or lease cannot be.
    """

    noun: ClassVar[str] = "lock"

    def __init__(self, name: str, *, scope: ScopeName, lease: float = 10.0) -> None:
        super().__init__(name, scope)
        positive(f"lock `{name}`", lease=lease)
        if lease > LONGEST_TTL:
            msg = f"lease={lease} of the lock `{name}` is no time after which a lock of the dead is free"
            raise DeclarationError(msg, hint="it is renewed while it is held: the default is 10 seconds")
        self.lease = lease
        self._turn: Turn | None = None

    def _begin(self, engine: Engine) -> None:
        super()._begin(engine)
        self._queue = asyncio.Lock()  # in the order of asking; only its head asks the engine

    def hold(self, *, timeout: float = 5.0) -> AbstractAsyncContextManager[Held]:
        """
        Wait for the lock, hold it for a block, and give it back, whatever happens in the block.

        Args:
            timeout: Seconds to wait for it; 0 takes it if it is free.

        Returns:
            A context manager that gives `Held`: its token, and whether it was lost.

        Raises:
            LockTimeout: On entering, it was not free in time; the path says who holds it, where that is this process.
            LockLost: On leaving, its lease had run out; the block was cancelled for that.
            NotReentrant: On entering, this task holds it.
            NotStarted: On entering, this is the declaration; what is injected can be held.
            AlreadyClosed: On entering, its app has closed it.
            StateUnavailable: On entering, its engine does not answer.
        """
        caller = sys._getframe(1)  # noqa: SLF001 (the line that errors are to name)
        return self._hold(timeout, (caller.f_code.co_filename, caller.f_lineno))

    @asynccontextmanager
    async def _hold(self, timeout: float, site: tuple[str, int]) -> AsyncGenerator[Held]:  # noqa: ASYNC109 (one deadline for two waits)
        engine = self._served()
        if not (isinstance(timeout, Real) and timeout >= 0):
            problem = "is below 0" if isinstance(timeout, Real) else "is no number of seconds"
            msg = f"timeout={timeout} of the lock `{self.name}` {problem}"
            raise DeclarationError(msg)
        task = asyncio.current_task()
        if self._turn is not None and self._turn.task is task:
            msg = f"the lock `{self.name}` is asked for by the task that holds it, which would wait for itself"
            raise NotReentrant(msg, path=[str(self._turn)], hint="take it once, further out")
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._queue.acquire()
        except TimeoutError:
            raise self._timed_out(timeout, site) from None
        try:
            lease = Lease(engine, f"lock:{self.name}", self.lease)
            try:
                if not await _taken(lease, deadline):
                    raise self._timed_out(timeout, site)
                self._turn = Turn(task, site)
                async with _cancelled_on_loss(lease, f"the lock `{self.name}`"):
                    yield Held(lease, f"the lock `{self.name}`")
            finally:
                await lease.give_back()
        finally:
            self._turn = None
            self._queue.release()

    def _timed_out(self, timeout: float, site: tuple[str, int]) -> LockTimeout:
        holder = str(self._turn) if self._turn else "held by another process"
        return LockTimeout(
            f"the lock `{self.name}` was not free within {timeout:g} s",
            path=[holder, f"wanted at {place(*site)}", f"declared at {self.location}"],
            hint="wait for longer, `hold(timeout=…)`, or do less while it is held",
        )


async def _taken(lease: Lease, deadline: float) -> bool:
    """Take what another process may have, trying until the deadline, and once in any case."""
    delay = FIRST_DELAY
    while not await lease.take():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        await asyncio.sleep(min(left, delay * random.uniform(0.5, 1)))  # noqa: S311 (no secret: not all at once)
        delay = min(delay * 2, LONGEST_DELAY)
    return True


@asynccontextmanager
async def _cancelled_on_loss(lease: Lease, description: str) -> AsyncGenerator[None]:
    """Cancel the block when the lease is lost, and say so on leaving it, also when nothing was awaited since."""
    body = asyncio.timeout(None)
    try:
        async with body:
            lease.on_loss = lambda: body.reschedule(0)
            try:
                yield
            finally:
                lease.on_loss = None
    except TimeoutError as error:
        if body.expired():
            raise lost(description) from error.__cause__
        raise
    if lease.is_over:
        raise lost(description)
