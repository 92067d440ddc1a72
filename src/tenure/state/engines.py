"""What an engine does for the handles of shared state, whatever it is: memory, Valkey or PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from fastapi import Depends

from tenure.errors import DeclarationError
from tenure.resources import Resource
from tenure.state.deployments import current_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from tenure.scopes import ScopeName

T_co = TypeVar("T_co", covariant=True)

LARGEST_VALUE = 1024 * 1024
"""Bytes that a value or a message may have, unless a handle says otherwise."""


LARGEST_KEY = 512
"""Bytes that a key may have, in UTF-8."""


class Missed(Enum):
    """What stands among the messages of a topic where some may have been lost: `MISSED`, told by ``is``."""

    MISSED = "MISSED"

    def __repr__(self) -> str:
        return "MISSED"


MISSED: Final = Missed.MISSED
"""The only one there is; an enumeration's, so that type checkers know what is left after ``if message is MISSED``."""


class Engine(Protocol):
    """
    What keeps the state of one scope: one for each process and event loop, shared by all handles of that scope.

    Keys and names are those of the handle, such as ``"cache:sessions:42"``; an engine puts its deployment before them.
    Each call has a deadline of its own. The names of handles have no colon, so a key belongs to one handle.

    Raises:
        StateUnavailable: From each call, when the engine does not answer in time. Whether a write was done is then not
            known. The next call tries anew.
    """

    async def get(self, key: str) -> bytes | None:
        """Give a value, or nothing when there is none or it has expired."""
        ...

    async def set(self, key: str, value: bytes, *, ttl: float | None) -> None:
        """Keep a value, in the place of another, for `ttl` seconds or until it is deleted."""
        ...

    async def delete(self, key: str) -> bool:
        """Delete a value, and tell whether there was one."""
        ...

    async def keep(self, key: str, value: bytes) -> None:
        """Keep a value for good, on disk where the engine has one; no room is made of it for others."""
        ...

    async def kept(self, key: str) -> bytes | None:
        """Give what `keep` has kept, or nothing."""
        ...

    async def increment(self, key: str, by: int, *, ttl: float | None) -> int:
        """
        Add to a number in one atomic step, and give the new one; the first add begins at 0 and sets the expiry.

        A number is kept as the bytes of its decimal digits, so `get` and `set` read and write it as well.

        Raises:
            StateMismatch: What is kept there is not a whole number.
            StateFull: The number would leave 64 bits. It is as it was.
        """
        ...

    async def acquire(self, name: str, *, holder: str, lease: float) -> int | None:
        """
        Take a lock for `lease` seconds, unless another holder has it, without waiting.

        Returns:
            A token above all that were given before, whatever the name: one number serves all locks, so that a name
            leaves nothing behind when its lease ends, and names may be many. Nothing, if another has the lock.
        """
        ...

    async def renew(self, name: str, *, holder: str, lease: float) -> bool:
        """Hold a lock for `lease` seconds from now, and tell whether it was still held."""
        ...

    async def release(self, name: str, *, holder: str) -> None:
        """Give a lock back, if it is still held by this holder."""
        ...

    async def publish(self, topic: str, message: bytes) -> None:
        """Send a message to all who are subscribed now."""
        ...

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[bytes | Missed]]:
        """
        Receive what is published from the enter on, in order, with `MISSED` where something may have been lost.

        It is so after a reconnection, and where the receiver was too slow for what is kept for it. The iteration ends,
        after what is kept, when the engine is closed.
        """
        ...


class EngineResource(Resource[T_co]):
    """An engine, which is there when a handle needs it: what is missing is said of the handle."""

    @property
    def is_done_once(self) -> bool:
        """Not: each process has an engine of its own on what is shared."""
        return False

    @property
    def holds_as(self) -> ScopeName:
        """As what lives in a process, which it does: it may be made of the app's pool."""
        return "app"

    def lacks(self, state: str | None) -> str:
        """Say nothing."""
        del state
        return ""


@dataclass(frozen=True)
class Address:
    """
    Where machines share state.

    Attributes:
        url: The engine's address, with its password.
        pool: The app's own `asyncpg.Pool` on it, if calls are to go through that.
    """

    url: str = field(repr=False)
    pool: Any = None


async def _address() -> Address:
    return Address(current_state() or "")


state_address: Resource[Address] = EngineResource(_address, scope="cluster", name="state's address")


def address_by(pool: Resource[Any]) -> Resource[Address]:
    """Give what stands in for `state_address` where state is kept by way of a pool of the app's."""

    async def by_pool(pool: Any = Depends(pool)) -> Address:  # noqa: ANN401, B008 (FastAPI's way)
        try:
            return Address(pool.settings.dsn, pool.driver_pool)
        except AttributeError:
            msg = f"state is to be kept by way of {type(pool).__name__}, which is no pool of tenure's"
            raise DeclarationError(msg, hint="declare it by `tenure.pools.asyncpg.pool`, or give an address") from None

    return EngineResource(by_pool, scope="cluster", name="state's address", location=pool.location)
