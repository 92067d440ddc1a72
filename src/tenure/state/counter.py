"""`Counter`: a count that is exact from every thread, handler and, at `host` scope, worker that shares it."""

from __future__ import annotations

import sys
from copy import copy
from functools import partial
from numbers import Real
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fastapi import Depends

from tenure.errors import DeclarationError, StateUnavailable
from tenure.state.deployments import current_deployment
from tenure.state.engines import EngineResource, state_address
from tenure.state.handles import Handle
from tenure.state.stores import NAME_BYTES
from tenure.state.stores.memory import MemoryNumber
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from tenure.resources import Resource
    from tenure.scopes import ScopeName
    from tenure.state.stores.mapped import Share
    from tenure.state.stores.publisher import ClusterCounts

SYSTEMS = frozenset({"linux", "darwin"})
INTERVAL = 1.0
"""Seconds between two publishes of a machine's counts, unless a counter says otherwise."""
SHORTEST = 0.05
"""Seconds that there must be between two of them."""


if TYPE_CHECKING:

    class Number(Protocol):
        """What a counter counts with."""

        def add(self, n: int = 1) -> int:
            """Add to it, and give the new value."""
            ...

        @property
        def value(self) -> int:
            """The value now."""
            ...


async def _published(address: Any = Depends(state_address)) -> AsyncIterator[ClusterCounts]:  # noqa: ANN401, B008 (FastAPI's way)
    """Share counts with other machines, where the app's settings say."""
    from tenure.state.stores.publisher import cluster_counts  # noqa: PLC0415 (what others need not load)

    async with cluster_counts(address.url, current_deployment()) as counts:
        yield counts


published_counts: Resource[ClusterCounts] = EngineResource(_published, scope="cluster", name="published counts")


class Counter(Handle["Counter"]):
    """
    A whole number that many add to.

    Declared once, at module level, and injected as itself: ``Annotated[Counter, Depends(requests)]``. The declaration
    counts nothing; what is injected does.

    At ``scope="app"`` it is exact from threads and the event loop of one process: each `add` is atomic, a read sees
    every add that returned before it. It lives in memory: it begins at 0 with each running app and ends with it, and a
    crash loses it. Two workers have two counts.

    At ``scope="host"`` it is exact from all workers of a deployment on this machine, their threads, their event loops
    and their forked children, with the same promises. An add that has returned is not lost when any process is killed;
    one that is under way then may count or not. It begins at 0 when no worker is left, also when all were killed, and
    when the machine restarts. With ``durable=True`` it goes on in both cases; a power cut may lose the last half minute
    or so. Counters of one name are one count, whichever app of the deployment declares them.

    At ``scope="cluster"`` all machines of a deployment have one count. Each counts in a file of its own, as at
    ``"host"`` scope, and publishes its totals every `interval` seconds to the Valkey, Redis or PostgreSQL that
    ``state=`` names. So `add` and `value` never wait for the network. The value is exact, at once, for what this
    machine has counted, and for others at most `interval` and a round trip old. So it is never too high, but for what
    others have taken away since. While the engine is gone, each machine counts on with what it last knew of others, and
    says so in the log. One `interval` after the engine is back the count is exact again, also when the engine has lost
    all it kept, but for what was counted by machines that are gone.

    No process takes a count with it when it dies, nor do all of a machine: the next one there publishes it. A machine
    that is lost takes what it counted in the last `interval`, and so does a container whose processes are all killed.
    What a machine counts while it cannot reach the engine for 29 days or more, it keeps to itself. The count lives as
    long as the engine keeps it.

    Counting is not limiting: between reading a value and acting on it, others may add.

    Args:
        name: What logs and errors call it; unique within an app.
        scope: Who shares the count.
        durable: Whether it is kept when no worker is left; at ``scope="host"``.
        interval: Seconds between two publishes of what this machine has counted; at ``scope="cluster"``. Counters with
            different ones are published over different connections.

    Raises:
        DeclarationError: The name is empty; or longer than 120 bytes, 119 at ``scope="cluster"``; or
            not printable there; or the scope ends with a request; or `durable` is said at another scope than
            ``"host"``; or the interval is below 0.05 seconds.
    """

    noun: ClassVar[str] = "counter"
    does: ClassVar[str] = "counts"

    def __init__(self, name: str, *, scope: ScopeName, durable: bool = False, interval: float = INTERVAL) -> None:
        self._refuse_no_name(name)
        if durable and scope == "app":
            msg = f'the counter `{name}` is to be durable, but lives in memory at the scope "app"'
            raise DeclarationError(msg, hint='let the workers of a machine share it: `scope="host"`')
        if scope == "cluster":
            _refuse_for_cluster(name, durable=durable, interval=interval)
        self.durable = durable
        self.interval = interval
        self._number: Number | None = None
        super().__init__(name, scope, self._joining() if scope == "cluster" else self._begin)

    def _joining(self) -> Callable[..., AsyncGenerator[Counter]]:
        # What publishes is a parameter, so that it starts before its counters and closes after them.
        async def begin(counts: Any = Depends(published_counts)) -> AsyncGenerator[Counter]:  # noqa: ANN401, B008 (FastAPI's way)
            self._refuse_system()
            counting = copy(self)
            counting._count_with(await counts.number(self.name, self.interval))  # noqa: SLF001 (its own kind)
            try:
                yield counting
            finally:
                counting._stop_counting()  # noqa: SLF001 (its own kind)

        return begin

    async def _begin(self) -> AsyncGenerator[Counter]:
        counting = copy(self)
        if self.scope == "app":
            counting._count_with(MemoryNumber())  # noqa: SLF001 (its own kind)
            yield counting
            return
        shares: list[Share] = []
        try:
            await in_own_thread(partial(self._share, shares, get_ident()))
            counting._count_with(shares[0].number)  # noqa: SLF001 (its own kind)
            yield counting
        finally:
            counting._stop_counting()  # noqa: SLF001 (its own kind)
            for share in shares:
                share.close()

    def _share(self, shares: list[Share], owner: int) -> None:
        """Take part in the shared count; into a list, so that a start that is cancelled meanwhile can give it back."""
        self._refuse_system()
        # What an app without shared counters need not load.
        from tenure.state.stores import mapped, places  # noqa: PLC0415

        folder = places.settled(current_deployment(), "counters", durable=self.durable)
        shares.append(mapped.share(folder, self.name, owner=owner, durable=self.durable))

    def _refuse_system(self) -> None:
        if sys.platform not in SYSTEMS:
            msg = f"workers cannot share the counter `{self.name}` on {sys.platform}, only on Linux and macOS"
            raise StateUnavailable(msg, hint='count in each worker, `scope="app"`')

    def _count_with(self, number: Number) -> None:
        self._number = number
        vars(self)["add"] = number.add  # a call less for each add

    def _stop_counting(self) -> None:
        self._number, self._is_closed = None, True
        vars(self).pop("add", None)

    def add(self, n: int = 1) -> int:
        """
        Add to the count, in one atomic step, from any thread.

        Args:
            n: How much, below 0 as well.

        Returns:
            The new value, of which this add is a part and every add that returned before; of those on other machines,
            as many as are known here. Others' adds that are made at the same time may be in it
            where it is shared, and those then give the same value.

        Raises:
            NotStarted: This is the declaration; what is injected counts.
            AlreadyClosed: Its app has closed it.
            StateFull: The number would leave 64 bits, where it is shared.
            StateError: This is a forked child, which cannot join those that share the count.
        """
        return self._counting().add(n)

    @property
    def value(self) -> int:
        """
        The count now: every add that has returned; of those on other machines, as many as are known here.

        Raises:
            NotStarted: This is the declaration; what is injected counts.
            AlreadyClosed: Its app has closed it.
            StateError: This is a forked child, which cannot join those that share the count.
        """
        number = self._number
        return number.value if number is not None else self._counting().value

    def _counting(self) -> Number:
        if self._number is None:
            raise self._unusable()
        return self._number


def _refuse_for_cluster(name: str, *, durable: bool, interval: float) -> None:
    if durable:
        msg = f"the counter `{name}` is to be durable, but what machines share lives as long as the engine keeps it"
        raise DeclarationError(msg, hint='leave the word out, or count on one machine: `scope="host"`')
    if not name.isprintable() or len(name.encode()) >= NAME_BYTES:
        msg = f"the counter {name!r} cannot be shared by machines: its name is too long, or not printable"
        raise DeclarationError(msg, hint=f"use printable characters, in UTF-8 fewer than {NAME_BYTES} bytes")
    if not (isinstance(interval, Real) and interval >= SHORTEST):
        msg = f"interval={interval} of the counter `{name}` is below {SHORTEST} seconds"
        raise DeclarationError(msg, hint=f"the default is {INTERVAL:g}")
