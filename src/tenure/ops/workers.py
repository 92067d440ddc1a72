"""All workers of a deployment on this machine: each answers the others over a unix socket."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tenure.errors import HostServiceError, StateError
from tenure.host import locks
from tenure.host.sockets import make_socket_folder, socket_path
from tenure.state.stores import places
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    Answers = Mapping[str, Callable[[], bytes]]

logger = logging.getLogger("tenure")

PATIENCE = 1.0
"""Seconds that a worker has to answer; one that is stopped, or busy for longer, is told as silent."""
MOST = 1024
"""How many workers of a deployment a machine may have."""
LONGEST_QUESTION = 100
_SUFFIX = ".socket"


@dataclass(frozen=True)
class Answer:
    """What one worker says; nothing where it did not answer in time."""

    worker: int
    content: bytes | None


class Workers:
    """
    One worker among those of its deployment on its machine. Belongs to one event loop.

    Attributes:
        number: Its own, the lowest that was free when it came: it has it until it dies or leaves, and then
            another may have it. Nothing where workers cannot find each other.
    """

    def __init__(self, answers: Answers) -> None:
        self.number: int | None = None
        self._answers = answers
        self._folder: Path | None = None

    async def ask(self, question: str) -> list[Answer]:
        """Ask each worker that lives, this one among them, at the same time, and give what they say by their number."""
        if self._folder is None:
            return [Answer(self.number or 0, self._answers[question]())]
        numbers = await in_worker(partial(_numbers, self._folder))
        answers = await asyncio.gather(
            *(self._ask(number, question) for number in sorted({*numbers, self.number or 0}))
        )
        return [answer for answer in answers if answer is not None]

    async def _ask(self, number: int, question: str) -> Answer | None:
        if number == self.number or self._folder is None:
            return Answer(number, self._answers[question]())
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(str(_socket(self._folder, number)))
                try:
                    writer.write(f"{question}\n".encode())
                    content = await reader.read()
                finally:
                    writer.close()
        except TimeoutError:
            return Answer(number, None)
        except OSError:  # nobody listens: it has died, or left while it was asked
            return None
        return Answer(number, content) if content else None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                question = (await reader.readline())[:LONGEST_QUESTION].decode(errors="replace").strip()
                if question in self._answers:
                    writer.write(self._answers[question]())
                    await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def joined(self, deployment: str) -> AsyncGenerator[None]:
        """Be found by the other workers of a deployment for a block; where there is no place for that, be alone."""
        try:
            self._folder = await in_worker(partial(places.settled, deployment, "workers"))
            lock, number = await in_worker(partial(_claimed, self._folder))
        except (OSError, StateError, HostServiceError) as error:
            self._folder = None
            logger.warning("this worker is not found by others of the deployment: %s", error)
            yield
            return
        path = _socket(self._folder, number)
        try:
            with suppress(FileNotFoundError):
                path.unlink()
            server = await asyncio.start_unix_server(self._answer, path=str(path), limit=LONGEST_QUESTION)
            async with server:
                self.number = number
                yield
        finally:
            with suppress(OSError):
                path.unlink()
            lock.release()


def _claimed(folder: Path) -> tuple[locks.Lock, int]:
    """Take the lowest number that no living worker has."""
    joining = locks.wait_for(folder / "joining", deadline=float("inf"))
    try:
        make_socket_folder(folder, f"{MOST}{_SUFFIX}")
        for number in range(MOST):
            lock = locks.take(folder / f"{number}.lock")
            if lock is not None:
                return lock, number
    finally:
        if joining is not None:
            joining.release()
    msg = f"there are {MOST} workers of this deployment already"
    raise HostServiceError(msg, path=[str(folder)])


def _socket(folder: Path, number: int) -> Path:
    return socket_path(folder, f"{number}{_SUFFIX}")


def _numbers(folder: Path) -> list[int]:
    found = (path.stem for path in _socket(folder, 0).parent.glob(f"*{_SUFFIX}"))
    return [int(number) for number in found if number.isdigit()]
