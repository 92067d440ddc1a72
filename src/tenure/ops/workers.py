"""
All workers of a deployment on this machine: each answers the others over a unix socket.

Files are read in spare threads: one looks at a process above all while its handlers have all those that they may have.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from tenure.errors import HostServiceError, StateError
from tenure.host import locks
from tenure.host.sockets import make_socket_folder, socket_path
from tenure.state.stores import places
from tenure.threads import in_spare_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    Says = Callable[[], bytes | Awaitable[bytes]]

logger = logging.getLogger("tenure")

PATIENCE = 1.0
"""Seconds that a worker has to answer; one that is stopped, or busy for longer, is told as silent."""
JOINING = 5.0
"""Seconds that others have to come in, of whom one is let in at a time."""
MOST = 1024
"""How many workers of a deployment a machine may have."""
LONGEST_QUESTION = 100
LONGEST_ANSWER = 16 * 1024 * 1024
_SUFFIX = ".socket"


@dataclass(frozen=True)
class Answer:
    """What one worker says; nothing where it did not answer in time."""

    worker: int
    content: bytes | None


class _Seat:
    """A number that one process has among the workers of a deployment, and the socket at which it is asked."""

    def __init__(self, folder: Path, number: int, lock: locks.Lock) -> None:
        self.folder = folder
        self.number = number
        self._lock: locks.Lock | None = lock
        self._path = _socket(folder, number)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self._path.unlink(missing_ok=True)  # of one who had the number, and was killed
            self.socket.bind(str(self._path))
            self.socket.setblocking(False)  # noqa: FBT003 (Python's own)
        except BaseException:
            self.socket.close()
            raise
        _all.add(self)

    def leave(self) -> None:
        """Give the number back; not in a forked child, whose it is not."""
        lock, self._lock = self._lock, None
        if lock is not None:
            self.socket.close()
            with suppress(OSError):
                self._path.unlink()
            lock.release()

    def disown(self) -> None:
        """Close, in a forked child, what the kernel would keep open for as long as the child lives."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
            os.close(self.socket.detach())


_all: WeakSet[_Seat] = WeakSet()


def _after_fork() -> None:
    for seat in list(_all):
        seat.disown()


# A child that outlives its worker would keep the worker's number, and seem to be one that does not answer.
os.register_at_fork(after_in_child=_after_fork)


class Workers:
    """
    One worker among those of its deployment on its machine. Belongs to one event loop.

    Args:
        answers: What it may be asked, and what says the answer, in the event loop.
    """

    def __init__(self, answers: Mapping[str, Says]) -> None:
        self._answers = dict(answers)
        self._seat: _Seat | None = None

    @property
    def number(self) -> int | None:
        """
        Its own number, the lowest that was free when it came; nothing where workers cannot find each other.

        It has it until it leaves or dies; then another may have it.
        """
        return self._seat.number if self._seat is not None else None

    def learn(self, question: str, says: Says) -> None:
        """May be asked something else from now on."""
        self._answers[question] = says

    async def _said(self, question: str) -> bytes:
        said = self._answers[question]()
        return said if isinstance(said, bytes) else await said

    async def ask(self, question: str) -> list[Answer]:
        """Ask each worker that lives, this one among them, at the same time, and give what they say by their number."""
        seat = self._seat
        if seat is None:
            return [Answer(0, await self._said(question))]
        sockets = await in_spare_worker(partial(_sockets, seat.folder))
        sockets.pop(seat.number, None)
        answers = await asyncio.gather(
            self._own(seat.number, question), *(_asked(path, number, question) for number, path in sockets.items())
        )
        return sorted((answer for answer in answers if answer is not None), key=lambda answer: answer.worker)

    async def _own(self, number: int, question: str) -> Answer | None:
        return Answer(number, await self._said(question))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                question = (await reader.readline()).decode(errors="replace").strip()
                if question in self._answers:
                    writer.write(await self._said(question))
                    await writer.drain()
        except (TimeoutError, OSError, ValueError):
            writer.transport.abort()  # or what is left unread would keep it open
        finally:
            writer.close()

    @asynccontextmanager
    async def joined(self, deployment: str) -> AsyncGenerator[None]:
        """Be found by the other workers of a deployment for a block; where there is no place for that, be alone."""
        try:
            seat = await self._seated(deployment)
            if seat is None:
                yield
                return
            server = await asyncio.start_unix_server(self._answer, sock=seat.socket, limit=LONGEST_QUESTION)
            try:
                yield
            finally:
                server.close()
        finally:
            left, self._seat = self._seat, None
            if left is not None:
                await in_spare_worker(left.leave)

    async def _seated(self, deployment: str) -> _Seat | None:
        try:
            await in_spare_worker(partial(self._sit, deployment))
        except (OSError, StateError, HostServiceError) as error:
            logger.warning(
                "this worker is not found by others of the deployment: %s",
                error,
                extra={"tenure_event": "worker-alone"},
            )
        return self._seat

    def _sit(self, deployment: str) -> None:
        """Take the lowest number that no living worker has."""
        folder = places.settled(deployment, "workers")
        joining = locks.wait_for(folder / "joining", deadline=time.monotonic() + JOINING)
        if joining is None:
            msg = f"another worker has been coming in for more than {JOINING:g} s"
            raise HostServiceError(msg, path=[str(folder)])
        try:
            make_socket_folder(folder, f"{MOST}{_SUFFIX}")
            self._seat = _taken(folder)
        finally:
            joining.release()


def _taken(folder: Path) -> _Seat:
    for number in range(MOST):
        lock = locks.take(folder / f"{number}.lock")
        if lock is not None:
            try:
                return _Seat(folder, number, lock)
            except BaseException:
                lock.release()
                raise
    msg = f"there are {MOST} workers of this deployment already"
    raise HostServiceError(msg, path=[str(folder)])


async def _asked(path: Path, number: int, question: str) -> Answer | None:
    """Ask one worker; give nothing where nobody listens any more, as it has died, or leaves."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(f"{question}\n".encode())
                content = await _read(reader)
            finally:
                writer.close()
    except (ConnectionError, FileNotFoundError):
        return None
    except OSError:  # it did not answer in time, or so many wait for its answer that no more may
        return Answer(number, None)
    return Answer(number, content) if content else None


async def _read(reader: asyncio.StreamReader) -> bytes:
    content = bytearray()
    while part := await reader.read(65536):
        content += part
        if len(content) > LONGEST_ANSWER:
            raise TimeoutError
    return bytes(content)


def _socket(folder: Path, number: int) -> Path:
    return socket_path(folder, f"{number}{_SUFFIX}")


def _sockets(folder: Path) -> dict[int, Path]:
    found = _socket(folder, 0).parent.glob(f"*{_SUFFIX}")
    return {int(path.stem): path for path in found if path.stem.isascii() and path.stem.isdecimal()}
