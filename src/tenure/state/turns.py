"""Whose turn it is to do what is done once, and what came of it: in files on a machine, in an engine among machines."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4
from weakref import WeakSet

from tenure.errors import LockTimeout, StateUnavailable
from tenure.host import locks
from tenure.state.lock import Held, Lock
from tenure.state.stores import places
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tenure.state.engine import Engine

POLL = 0.02
"""Seconds between two looks at something that has no event to wait for."""

FAILURE_KEPT = 60.0
"""Seconds that an engine keeps a failure for those who wait; who starts after it was written tries anew."""


@dataclass(frozen=True)
class Failure:
    """Why it was not done, told by the process that tried to those that waited for it."""

    identity: str
    message: str
    path: tuple[str, ...]
    hint: str

    def written(self) -> bytes:
        """Give it as bytes."""
        return json.dumps(asdict(self)).encode()


def failure(message: str, path: tuple[str, ...] = (), hint: str = "") -> Failure:
    """Tell a failure, which is like no other."""
    return Failure(uuid4().hex, message, path, hint)


def _read_failure(written: bytes | None) -> Failure | None:
    if written is None:
        return None
    told = json.loads(written)
    return Failure(told["identity"], told["message"], tuple(told["path"]), told["hint"])


class Turns(Protocol):
    """
    What those who share one thing agree by; made for one user of it.

    Attributes:
        poll: Seconds between two looks while it waits.
    """

    poll: float

    async def join(self) -> None:
        """Become one of those who share it; what had failed by now is no concern of theirs."""
        ...

    async def leave(self) -> None:
        """Be one of them no longer; twice is as good as once."""
        ...

    def turn(self) -> AbstractAsyncContextManager[bool]:
        """Take the turn for a block, if nobody has it, without waiting; gives whether it was taken."""
        ...

    async def outcome(self) -> bytes | Failure | None:
        """Give the value, or a failure since this user has joined, if there is one."""
        ...

    async def keep(self, value: bytes) -> None:
        """Give the others the value; only in one's turn."""
        ...

    async def fail(self, why: Failure) -> None:
        """Tell those who wait that it failed; only in one's turn."""
        ...


class HostTurns:
    """
    The turns of one machine: files in a folder of the deployment, and locks that end with their holders.

    Each user shares the lock on ``users``, so that the first and the last can tell that they are: both forget what came
    of earlier turns. Whose turn it is has the lock on ``turn``.

    Args:
        deployment: Who shares it.
        key: What is done; the beginning of the names of its files.
    """

    poll = POLL

    def __init__(self, deployment: str, key: str) -> None:
        self._deployment = deployment
        self._key = key
        self._folder: Path | None = None
        self._users: locks.Lock | None = None
        self._turn: locks.Lock | None = None
        self._seen = ""
        _all.add(self)

    async def join(self) -> None:
        """Become one of those who share it; what had failed by now is no concern of theirs."""
        while not await in_own_thread(self._join):  # noqa: ASYNC110 (a lock of processes has no event to wait for)
            await asyncio.sleep(POLL)

    def _join(self) -> bool:
        self._folder = places.settled(self._deployment, "once")
        with _reaching(self._folder):
            beginning = locks.take(self._path("begin"))
            if beginning is None:
                return False
            try:
                everyone = locks.take(self._path("users"))
                if everyone is not None:
                    self._forget()
                    _drop(everyone)
                # One that leaves, or closes what it has run, may have the lock just now.
                self._users = locks.take(self._path("users"), shared=True)
                known = _read_failure(self._read("failure"))
            finally:
                _drop(beginning)
        self._seen = known.identity if known else ""
        return self._users is not None

    async def leave(self) -> None:
        """Be one of them no longer; the last one forgets what came of it. Twice is as good as once."""
        await in_own_thread(self._leave)

    def _leave(self) -> None:
        if self._users is None:
            return
        self._drop_users()
        with suppress(OSError):  # the folder may have been removed, and then nothing is left to forget
            everyone = locks.take(self._path("users"))
            if everyone is not None:
                self._forget()
                _drop(everyone)

    async def left_alone(self, seconds: float) -> bool:
        """Be a user no longer, wait until no other is left, and let none join from then on; tell whether it is so."""
        self._drop_users()
        deadline = time.monotonic() + seconds
        while not await in_own_thread(self._take_everyone):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    def _take_everyone(self) -> bool:
        with _reaching(self._folder):
            self._users = locks.take(self._path("users"))
        return self._users is not None

    def _drop_users(self) -> None:
        held, self._users = self._users, None
        if held is not None:
            _drop(held)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[bool]:
        """Take the turn for a block, if nobody has it, without waiting; gives whether it was taken."""
        try:
            # In the event loop: opening a file that is there takes microseconds, and a thread a hundred times that, in
            # each of the workers that look several times a second for as long as they live.
            with _reaching(self._folder):
                self._turn = locks.take(self._path("turn"))
            yield self._turn is not None
        finally:
            held, self._turn = self._turn, None
            if held is not None:
                _drop(held)

    async def outcome(self) -> bytes | Failure | None:
        """Give the value, or a failure since this user has joined, if there is one."""
        return await in_own_thread(self._outcome)

    def _outcome(self) -> bytes | Failure | None:
        with _reaching(self._folder):
            value = self._read("value")
            if value is not None:
                return value
            told = _read_failure(self._read("failure"))
        return told if told is not None and told.identity != self._seen else None

    async def keep(self, value: bytes) -> None:
        """Give the others the value; only in one's turn."""
        await in_own_thread(partial(self._write, "value", value))

    async def fail(self, why: Failure) -> None:
        """Tell those who wait that it failed; only in one's turn."""
        self._seen = why.identity
        await in_own_thread(partial(self._write, "failure", why.written()))

    async def clear(self) -> None:
        """Let those who come from now on wait for a new value; only in one's turn."""
        await in_own_thread(self._clear)

    def _clear(self) -> None:
        with _reaching(self._folder):
            self._path("value").unlink(missing_ok=True)

    def _read(self, part: str) -> bytes | None:
        try:
            return self._path(part).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, part: str, content: bytes) -> None:
        with _reaching(self._folder):
            draft = self._path("draft")  # whose turn it is writes alone
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            draft.replace(self._path(part))

    def _forget(self) -> None:
        for part in ("value", "failure", "draft"):
            self._path(part).unlink(missing_ok=True)
        for array in self.place.parent.glob(f"{self.place.name}.array-*"):
            array.unlink(missing_ok=True)

    def _path(self, part: str) -> Path:
        return self.place.with_name(f"{self._key}.{part}")

    @property
    def place(self) -> Path:
        """How the paths of its files begin; all of them are forgotten with the last who shares it."""
        if self._folder is None:
            msg = f"what is done once, {self._key}, was used before it was joined"
            raise StateUnavailable(msg)
        return self._folder / self._key

    def inherit(self) -> None:
        """Close what a forked child has inherited; the locks stay its parent's."""
        for held in (self._users, self._turn):
            if held is not None:
                with suppress(OSError):  # it may have been closed, as a daemon closes what it has inherited
                    held.release()
        self._users = self._turn = None


_all: WeakSet[HostTurns] = WeakSet()


def _after_fork() -> None:
    for turns in _all:
        turns.inherit()


os.register_at_fork(after_in_child=_after_fork)


def _drop(held: locks.Lock) -> None:
    # Said in so many words: closing alone would leave it to a child that was forked meanwhile.
    fcntl.flock(held.descriptor, fcntl.LOCK_UN)
    held.release()


@contextmanager
def _reaching(folder: Path | None) -> Generator[None]:
    try:
        yield
    except OSError as error:
        msg = f"what is done once cannot be kept for other workers: {error.strerror or error}"
        hint = "let the workers' user write there, or set XDG_RUNTIME_DIR to a folder where it can"
        raise StateUnavailable(msg, path=[str(error.filename or folder)], hint=hint) from error


class ClusterTurns:
    """
    The turns of all machines: a lock of the engine, which keeps the value as well.

    Args:
        engine: What keeps it.
        key: What is done.
    """

    poll = 0.1

    def __init__(self, engine: Engine, key: str) -> None:
        self._engine = engine
        self._value_key, self._failure_key = f"once:{key}:value", f"once:{key}:failure"
        self._lock = Lock(f"once {key}", scope="cluster")
        self._lock._begin(engine)  # noqa: SLF001 (a lock of ours, which no app injects)
        self._held: Held | None = None
        self._seen = ""

    async def join(self) -> None:
        """Become one of those who share it; what had failed by now is no concern of theirs."""
        known = _read_failure(await self._engine.get(self._failure_key))
        self._seen = known.identity if known else ""

    async def leave(self) -> None:
        """Be one of them no longer: nothing is to be done, as the engine keeps the value."""

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[bool]:
        """Take the turn for a block, if nobody has it, without waiting; gives whether it was taken."""
        async with AsyncExitStack() as stack:
            try:
                self._held = await stack.enter_async_context(self._lock.hold(timeout=0))
            except LockTimeout:
                taken = False
            else:
                taken = True
            yield taken

    async def outcome(self) -> bytes | Failure | None:
        """Give the value, or a failure since this user has joined, if there is one."""
        value = await self._engine.kept(self._value_key)
        if value is not None:
            return value
        told = _read_failure(await self._engine.get(self._failure_key))
        return told if told is not None and told.identity != self._seen else None

    async def keep(self, value: bytes) -> None:
        """
        Give the others the value; only in one's turn. The first that is kept stands.

        Raises:
            LockLost: Another has the turn by now, and the others its value.
        """
        if self._held is not None:
            self._held.check()
        await self._engine.keep(self._value_key, value)

    async def fail(self, why: Failure) -> None:
        """Tell those who wait that it failed; not where another has the turn by now, for whom they wait."""
        if self._held is not None and self._held.lost:
            return
        self._seen = why.identity
        await self._engine.set(self._failure_key, why.written(), ttl=FAILURE_KEPT)
