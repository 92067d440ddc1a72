"""`Cache`: values for a time, each loaded once for all who want it, and numbers that limits can stand on."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Generic, overload

from typing_extensions import TypeVar

from tenure.errors import DeclarationError, LoadTimeout, NotReentrant, NotSerialisable
from tenure.state.engine_handles import EngineHandle
from tenure.state.engines import LARGEST_KEY, LARGEST_VALUE
from tenure.state.handles import positive
from tenure.state.leases import FIRST_DELAY, LONGEST_DELAY, Lease
from tenure.state.stores.memory_engine import ENTRIES, TOTAL_BYTES, MemoryEngine
from tenure.state.values import Unreadable, Values, checked_key, kind_of_values

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tenure.scopes import ScopeName
    from tenure.state.engine import Engine

logger = logging.getLogger("tenure")

T = TypeVar("T", default=Any)

LOAD_LEASE = 10.0
"""Seconds after which another process may load what one had begun to load when it died."""


class Loading:
    """That a task loads a value, and what the others in its process wait for: the value as it is kept."""

    def __init__(self) -> None:
        self.task = asyncio.current_task()
        self.outcome: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Let those who wait raise this."""
        self.outcome.set_exception(error)
        self.outcome.exception()  # seen, so that asyncio does not report it where nobody waits


class Cache(EngineHandle["Cache[T]"], Generic[T]):
    """
    Keeps values by keys for a time.

    Declared once, at module level, and injected as itself: ``Annotated[Cache[User], Depends(users)]``. For `async`
    code.

    At ``scope="app"`` it lives in the memory of one process, begins empty with each running app, and keeps the values
    used last, within `max_entries` and `max_total_bytes`. At ``scope="host"`` all workers of this machine share it, at
    ``scope="cluster"`` all machines do; there the engine bounds it. It is a cache: a value may be gone at any time.

    Each call but `get_or_load` is one atomic step; a read sees every write that returned before it. Values are kept as
    JSON, or as bytes, at each scope: what one gets is a copy, so changing it changes nothing for others. A value that
    cannot be read as the cache's type, because another version of the program wrote it, counts as none.

    Args:
        name: What logs and errors call it; unique within an app, without colons, at most 120 bytes.
        scope: Who shares it.
        ttl: Seconds that a value is kept, unless a call says otherwise; unsaid, until it is deleted or crowded out.
        max_entries: How many values are kept at ``scope="app"``; 10,000 if unsaid.
        max_total_bytes: Bytes of keys and values that are kept at ``scope="app"``; 64 MiB if unsaid.
        max_bytes: How large a value may be, as JSON.
        load_timeout: Seconds that `get_or_load` may take.
        type: What values are, which Pydantic checks on both ends: a model, `list[int]`, `bytes` as they are. Without
            one, a value comes back as JSON has it: a tuple as a list, a date as text.

    Raises:
        DeclarationError: The name, scope or a bound cannot be.
    """

    noun: ClassVar[str] = "cache"

    @overload
    def __init__(
        self,
        name: str,
        *,
        scope: ScopeName,
        ttl: float | None = ...,
        max_entries: int | None = ...,
        max_total_bytes: int | None = ...,
        max_bytes: int = ...,
        load_timeout: float = ...,
        type: None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        scope: ScopeName,
        ttl: float | None = ...,
        max_entries: int | None = ...,
        max_total_bytes: int | None = ...,
        max_bytes: int = ...,
        load_timeout: float = ...,
        type: type[T],
    ) -> None: ...
    def __init__(  # noqa: PLR0913 (each is a word of the declaration)
        self,
        name: str,
        *,
        scope: ScopeName,
        ttl: float | None = None,
        max_entries: int | None = None,
        max_total_bytes: int | None = None,
        max_bytes: int = LARGEST_VALUE,
        load_timeout: float = 30.0,
        type: Any = None,  # noqa: A002 (the word for it)
    ) -> None:
        super().__init__(name, scope)
        bounds = {"max_entries": max_entries, "max_total_bytes": max_total_bytes, "max_bytes": max_bytes}
        positive(f"cache `{name}`", ttl=ttl, load_timeout=load_timeout, **bounds)
        room = TOTAL_BYTES if max_total_bytes is None else max_total_bytes
        if room < max_bytes + LARGEST_KEY:
            msg = (
                f"the cache `{name}` keeps {room} bytes, but one value may have {max_bytes}, and its key {LARGEST_KEY}"
            )
            raise DeclarationError(msg, hint="raise `max_total_bytes`, or lower `max_bytes`")
        self.ttl = ttl
        self.load_timeout = load_timeout
        self._max_entries = ENTRIES if max_entries is None else max_entries
        self._max_total_bytes = room
        self._max_bytes = max_bytes
        self._type = type
        self._prefix = f"cache:{name}:"

    def _begin(self, engine: Engine) -> None:
        super()._begin(engine)
        self._values: Values[T] = Values(f"cache `{self.name}`", kind_of_values(self, self._type), self._max_bytes)
        self._loading: dict[str, Loading] = {}
        if isinstance(engine, MemoryEngine):
            handle = self._prefix.removesuffix(":")
            engine.bound(handle, max_entries=self._max_entries, max_bytes=self._max_total_bytes)

    async def get(self, key: str) -> T | None:
        """
        Give a value, or nothing when there is none, or it has expired.

        Raises:
            StateTooLarge: The key has more than 512 bytes.
            NotSerialisable: The key is not text that UTF-8 can write.
            StateUnavailable: The engine does not answer.
            NotStarted: This is the declaration; what is injected keeps values.
            AlreadyClosed: Its app has closed it.
        """
        engine = self._served()
        return self._readable(await engine.get(self._key(key)))[1]

    async def set(self, key: str, value: T, *, ttl: float | None = None) -> None:
        """
        Keep a value in the place of another, for `ttl` seconds, or as long as the cache says.

        Raises:
            NotSerialisable: The value is not of the cache's type, or the key not text that UTF-8 can write.
            StateTooLarge: The value is larger than `max_bytes`, or the key has more than 512 bytes.
            DeclarationError: `ttl` is not above 0.
            StateUnavailable: The engine does not answer; whether the value is kept is not known.
            NotStarted: This is the declaration; what is injected keeps values.
            AlreadyClosed: Its app has closed it.
        """
        engine = self._served()
        await engine.set(self._key(key), self._values.encode(value), ttl=self._seconds(ttl))

    async def delete(self, key: str) -> bool:
        """
        Delete a value, and tell whether there was one.

        A value that is being loaded is not deleted: the load keeps it when it is done.

        Raises:
            StateTooLarge: The key has more than 512 bytes.
            NotSerialisable: The key is not text that UTF-8 can write.
            StateUnavailable: The engine does not answer; whether the value is deleted is not known.
            NotStarted: This is the declaration; what is injected keeps values.
            AlreadyClosed: Its app has closed it.
        """
        engine = self._served()
        return await engine.delete(self._key(key))

    async def increment(self, key: str, by: int = 1, *, ttl: float | None = None) -> int:
        """
        Add to a number in one atomic step and one round trip, and give the new one: a limit can stand on it.

        The first add begins at 0 and sets the expiry; those after it do not change that, so the count begins anew `ttl`
        seconds after its first add. Where the cache is full, a count may be gone before, and begins anew then: at
        ``scope="app"``, let `max_entries` have room for all that count at a time.

        Raises:
            StateMismatch: What is kept there is not a whole number.
            StateFull: The number would leave 64 bits.
            StateTooLarge: The key has more than 512 bytes.
            NotSerialisable: The key is not text that UTF-8 can write.
            DeclarationError: `ttl` is not above 0, or `by` no whole number.
            StateUnavailable: The engine does not answer; whether it was added is not known.
            NotStarted: This is the declaration; what is injected keeps values.
            AlreadyClosed: Its app has closed it.
        """
        engine = self._served()
        try:
            by = int(index(by))
        except TypeError:
            msg = f"by={by!r} of the cache `{self.name}` is no whole number"
            raise DeclarationError(msg) from None
        return await engine.increment(self._key(key), by, ttl=self._seconds(ttl))

    async def get_or_load(self, key: str, load: Callable[[], Awaitable[T]], *, ttl: float | None = None) -> T:
        """
        Give a value, or load it and keep it, with one load of a key at a time for all who share the cache.

        The load runs in the task of the one who began it, so that it may use what that request has borrowed. The others
        wait for it. If that task is cancelled, the load is too, and one of the others loads with its own function. If
        the load fails, all who wait in its process raise its error, and nothing is kept; those in other processes try
        themselves.

        Args:
            key: What the value is kept by.
            load: Called without arguments, gives the value.
            ttl: Seconds that the value is kept, unless the cache's own.

        Raises:
            LoadTimeout: It took longer than the cache's `load_timeout`.
            NotReentrant: The load wants the value that it is to load.
            NotSerialisable: The value is not of the cache's type, or the key not text that UTF-8 can write.
            StateTooLarge: The value is larger than `max_bytes`, or the key has more than 512 bytes.
            DeclarationError: `ttl` is not above 0.
            StateUnavailable: The engine does not answer.
            NotStarted: This is the declaration; what is injected keeps values.
            AlreadyClosed: Its app has closed it.
            Exception: What `load` raises.
        """
        engine, kept_by, seconds = self._served(), self._key(key), self._seconds(ttl)
        is_there, value = self._readable(await engine.get(kept_by))
        if is_there:
            return value  # type: ignore[return-value] # what is there is of the type
        until = asyncio.get_running_loop().time() + self.load_timeout
        while (others := self._loading.get(kept_by)) is not None:
            written = await self._loaded_by(others, key, until)
            if written is not None:
                return self._read_again(written)
        return self._read_again(await self._load(engine, key, load, seconds, until))

    async def _loaded_by(self, others: Loading, key: str, until: float) -> bytes | None:
        """Wait for what another task loads; nothing, if that was cancelled."""
        if others.task is asyncio.current_task():
            msg = f"a load for the cache `{self.name}` wants the value that it is to load, and would wait for itself"
            raise NotReentrant(msg, path=[f"the key {key!r}"], hint="load it under another key")
        async with self._in_time(key, until):
            await asyncio.wait([others.outcome])  # which leaves it to the others when this task is cancelled
        return others.outcome.result()

    async def _load(
        self, engine: Engine, key: str, load: Callable[[], Awaitable[T]], ttl: float | None, until: float
    ) -> bytes:
        """Load for all in this process; they get the value, the error, or, if this is cancelled, the next turn."""
        kept_by = self._key(key)
        own = self._loading[kept_by] = Loading()
        try:
            async with self._in_time(key, until):
                written = await self._load_once(engine, kept_by, load, ttl)
                own.outcome.set_result(written)
                return written
        except Exception as error:
            own.fail(error)
            raise
        finally:
            del self._loading[kept_by]
            if not own.outcome.done():
                own.outcome.set_result(None)

    async def _load_once(
        self, engine: Engine, kept_by: str, load: Callable[[], Awaitable[T]], ttl: float | None
    ) -> bytes:
        """Load, unless another process does: then wait for its value, or for its lease to end."""
        if self.scope == "app":
            return await self._load_and_keep(engine, kept_by, load, ttl)
        lease, delay = Lease(engine, f"load:{kept_by}", LOAD_LEASE), FIRST_DELAY
        try:
            while True:
                is_taken = await lease.take()
                written = await engine.get(kept_by)
                if written is not None and self._readable(written)[0]:
                    return written
                if is_taken:
                    return await self._load_and_keep(engine, kept_by, load, ttl)
                await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 (no secret: not all at once)
                delay = min(delay * 2, LONGEST_DELAY)
        finally:
            await lease.give_back()

    async def _load_and_keep(
        self, engine: Engine, kept_by: str, load: Callable[[], Awaitable[T]], ttl: float | None
    ) -> bytes:
        written = self._values.encode(await load())
        await engine.set(kept_by, written, ttl=ttl)
        return written

    @asynccontextmanager
    async def _in_time(self, key: str, until: float) -> AsyncGenerator[None]:
        deadline = asyncio.timeout_at(until)
        try:
            async with deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise
            msg = f"a value of the cache `{self.name}` was not loaded within {self.load_timeout:g} s"
            where = [f"the key {key!r}", f"declared at {self.location}"]
            hint = "give the load a deadline of its own, or the cache a longer one: `load_timeout=…`"
            raise LoadTimeout(msg, path=where, hint=hint) from error.__cause__

    def _key(self, key: str) -> str:
        return self._prefix + checked_key(f"cache `{self.name}`", key)

    def _seconds(self, ttl: float | None) -> float | None:
        if ttl is None:
            return self.ttl
        positive(f"cache `{self.name}`", ttl=ttl)
        return ttl

    def _read_again(self, written: bytes) -> T:
        try:
            return self._values.decode(written)
        except Unreadable as error:
            msg = f"a value that was loaded for the cache `{self.name}` cannot be read again as its type"
            raise NotSerialisable(msg, hint="let the type read what it writes; the cause says what it did") from error

    def _readable(self, written: bytes | None) -> tuple[bool, T | None]:
        """Read what is kept, and tell whether that is a value."""
        if written is None:
            return False, None
        try:
            return True, self._values.decode(written)
        except Unreadable as error:
            logger.warning(
                "a value counts as none: %s",
                error,
                extra={"tenure_event": "value-unreadable", "tenure_state": self.name},
            )
            return False, None
