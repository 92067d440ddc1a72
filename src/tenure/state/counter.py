"""`Counter`: a count that is exact from every thread, handler and, at `host` scope, worker that shares it."""

from __future__ import annotations

import sys
from copy import copy
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from tenure.calls import place
from tenure.errors import AlreadyClosed, DeclarationError, NotStarted, StateUnavailable
from tenure.resources import Resource
from tenure.state.deployments import current_deployment, lacking
from tenure.state.stores import NAME_BYTES
from tenure.state.stores.memory import MemoryNumber
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tenure.scopes import ScopeName
    from tenure.state.stores.mapped import Share

SYSTEMS = frozenset({"linux", "darwin"})


class Number(Protocol):
    """What a counter counts with."""

    def add(self, n: int = 1) -> int:
        """Add to it, and give the new value."""
        ...

    @property
    def value(self) -> int:
        """The value now."""
        ...


class Counter(Resource["Counter"]):
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

    Counting is not limiting: between reading a value and acting on it, others may add.

    Args:
        name: What logs and errors call it; unique within an app.
        scope: Who shares the count.
        durable: Whether it is kept when no worker is left; at ``scope="host"``.

    Raises:
        DeclarationError: The name is empty or, for a shared counter, longer than 120 bytes; or the scope ends with a
            request; or a counter that lives in memory is to be durable.
    """

    def __init__(self, name: str, *, scope: ScopeName, durable: bool = False) -> None:
        if not name:
            msg = "a counter needs a name"
            raise DeclarationError(msg, hint='write `Counter("requests", scope="app")`')
        if scope in {"function", "request"}:
            msg = f"the counter `{name}` has the scope {scope!r}, in which nothing is shared"
            raise DeclarationError(msg, hint='share it in the process: `scope="app"`')
        if durable and scope == "app":
            msg = f'the counter `{name}` is to be durable, but lives in memory at the scope "app"'
            raise DeclarationError(msg, hint='let the workers of a machine share it: `scope="host"`')
        if scope != "app" and len(name.encode(errors="surrogatepass")) > NAME_BYTES:
            msg = f"the name of the counter `{name}` is longer than {NAME_BYTES} bytes"
            raise DeclarationError(msg, hint="give it a shorter one")
        self.durable = durable
        self._number: Number | None = None
        self._is_closed = False
        declaration = sys._getframe(1)  # noqa: SLF001 (the line that findings are to name)
        location = place(declaration.f_code.co_filename, declaration.f_lineno)
        super().__init__(self._begin, scope=scope, name=name, location=location)
        self.__doc__ = type(self).__doc__

    def lacks(self, state: str | None) -> str:
        """Say what would serve its scope, when nothing does."""
        return lacking(self.scope, state)

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
        if sys.platform not in SYSTEMS:
            msg = f"workers cannot share the counter `{self.name}` on {sys.platform}, only on Linux and macOS"
            raise StateUnavailable(msg, hint='count in each worker, `scope="app"`')
        # What an app without shared counters need not load.
        from tenure.state.stores import mapped, places  # noqa: PLC0415

        folder = places.settled(current_deployment(), "counters", durable=self.durable)
        shares.append(mapped.share(folder, self.name, owner=owner, durable=self.durable))

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
            The new value, of which this add is a part and every add that returned before. At ``scope="host"`` it may
            have others' adds in it that are made at the same time, and those then give the same value.

        Raises:
            NotStarted: This is the declaration; what is injected counts.
            AlreadyClosed: Its app has closed it.
            StateFull: The number would leave 64 bits, at ``scope="host"``.
            StateError: This is a forked child, which cannot join those that share the count.
        """
        return self._counting().add(n)

    @property
    def value(self) -> int:
        """
        The count now: every add that has returned.

        Raises:
            NotStarted: This is the declaration; what is injected counts.
            AlreadyClosed: Its app has closed it.
            StateError: This is a forked child, which cannot join those that share the count.
        """
        number = self._number
        return number.value if number is not None else self._counting().value

    def _counting(self) -> Number:
        if self._is_closed:
            msg = f"the counter `{self.name}` was used after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")
        if self._number is None:
            msg = f"the counter `{self.name}` was used as declared, where it counts nothing"
            inject = f"inject it: `Annotated[Counter, Depends({self.name})]`"
            raise NotStarted(msg, hint=f"{inject}; outside of requests, `await scope.get({self.name})`")
        return self._number
