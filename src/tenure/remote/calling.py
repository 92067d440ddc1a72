"""The caller's side, whatever the calls go over: where it may be used, how long a call may take, what is done twice."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from tenure.errors import AlreadyClosed
from tenure.origin import FROM_A_THREAD, Origin
from tenure.remote.errors import CallTimeout, NotBegun, OwnerDied

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Overdue(Exception):
    """Raised where an answer is late; a method may raise `TimeoutError` itself."""


class Connection(Protocol):
    """What leads to the object, as far as is known."""

    @property
    def is_open(self) -> bool:
        """Whether the object is there, as far as is known."""
        ...

    async def call(self, order: list[Any], until: float) -> Any:  # noqa: ANN401 (any value)
        """
        Give what a call gives; one that is cancelled is called off there too.

        Raises:
            Overdue: There was no answer at that time of the event loop.
            NotBegun: It has not run, and another connection is to be called.
        """
        ...

    def stream(self, order: list[Any], seconds: float) -> AsyncGenerator[Any]:
        """
        Give what a call gives, one by one; an iteration that is left is called off there too.

        Raises:
            Overdue: An item was not there so many seconds after it was asked for.
            NotBegun: It has not run, and another connection is to be called.
        """
        ...

    def close(self) -> None:
        """Hang up."""


C = TypeVar("C", bound=Connection)


class Calling(ABC, Generic[C]):
    """
    What calls an object that lives elsewhere. Belongs to one process and event loop.

    Args:
        name: What errors call the object.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._origin = Origin()
        self._loop = self._origin.loop
        self._connection: C | None = None
        self._ending: WeakSet[C] = WeakSet()
        self._is_closed = False

    def close(self) -> None:
        """Hang up, and refuse what comes after."""
        self._is_closed = True
        for connection in (*self._ending, self._connection):
            if connection is not None:
                connection.close()

    @abstractmethod
    async def connected(self) -> C:
        """Give a connection, waiting for the object's process where that starts anew."""

    async def call(self, order: list[Any], *, seconds: float, again: bool) -> Any:  # noqa: ANN401 (any value)
        """
        Call a method, and give its answer.

        Args:
            order: The method's name, its arguments, and those by name.
            seconds: How long all of it may take.
            again: Whether it is called once more if the process ends meanwhile.
        """
        until = self._loop.time() + seconds
        while True:
            self._refuse_elsewhere()
            connection = await self._connected_within(seconds, until)
            try:
                return await connection.call(order, until)
            except NotBegun:
                self._ends(connection)
            except OwnerDied:
                if not again:
                    raise
                again = False
            except Overdue:
                raise self._late(seconds) from None

    async def stream(self, order: list[Any], *, seconds: float) -> AsyncGenerator[Any]:
        """Call a generator, and give its items; each is waited for so many seconds at most."""
        until = self._loop.time() + seconds
        while True:
            self._refuse_elsewhere()
            connection = await self._connected_within(seconds, until)
            stream = connection.stream(order, seconds)
            try:
                async for item in stream:
                    yield item
            except NotBegun:
                self._ends(connection)
            except Overdue:
                raise self._late(seconds) from None
            else:
                return
            finally:
                await stream.aclose()

    async def _connected_within(self, seconds: float, until: float) -> C:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        try:
            async with asyncio.timeout_at(until):
                return await self.connected()
        except TimeoutError:
            msg = f"the process of `{self.name}` did not start anew within {seconds:g} s"
            raise OwnerDied(msg) from None

    def _ends(self, connection: C) -> None:
        """Call another from now on; it answers what it has begun."""
        self._ending.add(connection)
        if self._connection is connection:
            self._connection = None

    def _late(self, seconds: float) -> CallTimeout:
        return CallTimeout(f"`{self.name}` did not answer within {seconds:g} s")

    def _refuse_elsewhere(self) -> None:
        if self._is_closed:
            msg = f"`{self.name}` was called after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")
        self._origin.refuse_other_process(self.name)
        self._origin.refuse_other_loop(self.name, hint=FROM_A_THREAD)


def died(name: str) -> OwnerDied:
    """Give the error of a call under which the object's process has ended."""
    msg = f"the process of `{name}` ended while it was called: the call may have run, or not"
    hint = "if it may run twice, mark the method `@idempotent`, and it is called once more"
    return OwnerDied(msg, hint=hint)
