"""`Counter`: a count that is exact from every thread and handler that shares it."""

from __future__ import annotations

import sys
from copy import copy
from typing import TYPE_CHECKING

from tenure.calls import place
from tenure.errors import DeclarationError, NotStarted
from tenure.resources import Resource
from tenure.state.stores.memory import MemoryNumber

if TYPE_CHECKING:
    from tenure.scopes import ScopeName


class Counter(Resource["Counter"]):
    """
    A whole number that many add to.

    Declared once, at module level, and injected as itself: ``Annotated[Counter, Depends(requests)]``. The declaration
    counts nothing; each running app has its own count, which begins at 0.

    At ``scope="app"`` it is exact from threads and the event loop of one process: each `add` is atomic, a read sees
    every add that returned before it. It lives in memory: it ends with the app, and a crash loses it. Two workers have
    two counts.

    Counting is not limiting: between reading a value and acting on it, others may add.

    Args:
        name: What logs and errors call it; unique within an app.
        scope: Who shares the count.

    Raises:
        DeclarationError: The name is empty, or the scope ends with a request.
    """

    def __init__(self, name: str, *, scope: ScopeName) -> None:
        if not name:
            msg = "a counter needs a name"
            raise DeclarationError(msg, hint='write `Counter("requests", scope="app")`')
        if scope in {"function", "request"}:
            msg = f"the counter `{name}` has the scope {scope!r}, in which nothing is shared"
            raise DeclarationError(msg, hint='share it in the process: `scope="app"`')
        self._number: MemoryNumber | None = None
        declaration = sys._getframe(1)  # noqa: SLF001 (the line that findings are to name)
        location = place(declaration.f_code.co_filename, declaration.f_lineno)
        super().__init__(self._begin, scope=scope, name=name, location=location)
        self.__doc__ = type(self).__doc__

    async def _begin(self) -> Counter:
        counting = copy(self)
        counting._number = MemoryNumber()  # noqa: SLF001 (its own kind)
        return counting

    def add(self, n: int = 1) -> int:
        """
        Add to the count, in one atomic step, from any thread.

        Args:
            n: How much, below 0 as well.

        Returns:
            The new value, of which this add is a part and every add that returned before.

        Raises:
            NotStarted: This is the declaration; what is injected counts.
        """
        return self._counting().add(n)

    @property
    def value(self) -> int:
        """
        The count now: every add that has returned.

        Raises:
            NotStarted: This is the declaration; what is injected counts.
        """
        return self._counting().value

    def _counting(self) -> MemoryNumber:
        if self._number is None:
            msg = f"the counter `{self.name}` was used as declared, where it counts nothing"
            inject = f"inject it: `Annotated[Counter, Depends({self.name})]`"
            raise NotStarted(msg, hint=f"{inject}; outside of requests, `await scope.get({self.name})`")
        return self._number
