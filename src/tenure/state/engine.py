"""What an engine does for the handles of shared state, whatever it is: memory, Valkey or PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from tenure.state.engines import Missed


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
        """Keep a value for good unless one is kept, on disk where there is one; no room is made of it for others."""
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
