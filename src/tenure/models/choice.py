"""Which files a model was swapped for: remembered on a machine by its process, or agreed upon by all machines."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenure.errors import StateError
from tenure.models.files import ModelFile
from tenure.remote.service import leave
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tenure.models.loading import Files
    from tenure.state.cache import Cache
    from tenure.state.topic import Messages, Topic

    Follow = Callable[[], Awaitable[None]]

logger = logging.getLogger("tenure")

CHOICE = "chosen.json"
EVERY = 5.0
"""Seconds after which a machine looks for what was chosen, though nobody has told it of a choice."""


class Choice(ABC):
    """What was chosen in the place of what the program declares, for each version that it declares."""

    @abstractmethod
    async def read(self, declared: str) -> Files:
        """Give the files that were chosen in the place of a version, if any were."""

    @abstractmethod
    async def keep(self, declared: str, files: Files) -> None:
        """Choose files."""

    @asynccontextmanager
    async def followed(self, declared: str, follow: Follow) -> AsyncGenerator[None]:  # noqa: ARG002 (here nobody else chooses)
        """Call something whenever others may have chosen, for a block."""
        yield


class MachinesChoice(Choice):
    """
    What was chosen on this machine, in a file beside those of the model's process.

    The process that takes its place reads it; it is forgotten when the last worker has left, and not where the process
    ends because its keeper has died.

    Args:
        home: The folder of the process.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / CHOICE
        self._parent = os.getppid()

    async def read(self, declared: str) -> Files:
        """Give what was chosen."""
        return await in_worker(lambda: self._read(declared))

    def _read(self, declared: str) -> Files:
        if not self._path.exists():
            return None
        kept = json.loads(self._path.read_text())
        return from_data(kept["files"]) if kept["declared"] == declared else None

    async def keep(self, declared: str, files: Files) -> None:
        """Write it down."""
        await in_worker(lambda: leave(self._path, {"declared": declared, "files": to_data(files)}))

    @asynccontextmanager
    async def followed(self, declared: str, follow: Follow) -> AsyncGenerator[None]:
        """Forget it at the end."""
        del declared, follow
        yield
        await in_worker(self._forget)

    def _forget(self) -> None:
        if os.getppid() == self._parent:
            self._path.unlink(missing_ok=True)


class DeploymentsChoice(Choice):
    """
    What was chosen for all machines, where they share state; it stays as long as that keeps it.

    Args:
        chosen: What was chosen, by the version that is declared.
        news: Tells of each choice.
    """

    def __init__(self, chosen: Cache[Any], news: Topic[str]) -> None:
        self._chosen = chosen
        self._news = news

    async def read(self, declared: str) -> Files:
        """Ask for what was chosen."""
        return from_data(await self._chosen.get(declared))

    async def keep(self, declared: str, files: Files) -> None:
        """Let all know."""
        await self._chosen.set(declared, to_data(files))
        await self._news.publish(declared)

    @asynccontextmanager
    async def followed(self, declared: str, follow: Follow) -> AsyncGenerator[None]:
        """Do so whenever that is told, and from time to time."""
        heard = asyncio.Event()
        async with self._news.subscribe() as messages, asyncio.TaskGroup() as tasks:
            following = [
                tasks.create_task(_hear(messages, heard)),
                tasks.create_task(self._look(declared, follow, heard)),
            ]
            yield
            for task in following:
                task.cancel()

    async def _look(self, declared: str, follow: Follow, heard: asyncio.Event) -> None:
        while True:
            heard.clear()
            try:
                await follow()
            except StateError as error:
                logger.warning(
                    "what was chosen in the place of `%s` cannot be read: %s",
                    declared,
                    error.message,
                    extra={"tenure_event": "model-choice-unread"},
                )
            except Exception:  # whatever it is, it is looked for again
                logger.exception(
                    "what was chosen in the place of `%s` cannot be followed",
                    declared,
                    extra={"tenure_event": "model-not-followed"},
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await heard.wait()


async def _hear(messages: Messages[str], heard: asyncio.Event) -> None:
    with suppress(StateError):  # what is not heard is found when it is looked for
        async for _ in messages:
            heard.set()


def to_data(files: Any) -> Any:  # noqa: ANN401 (files, or what is refused where they are read)
    """Give files as data, their paths such that they are found from any folder."""
    if isinstance(files, ModelFile):
        return [str(Path(files.path).absolute()), files.sha256, files.format, files.max_bytes]
    if isinstance(files, Mapping):
        return {str(name): to_data(file) for name, file in files.items()}
    return None


def from_data(data: Any) -> Files:  # noqa: ANN401 (what `to_data` gives)
    """Give files as they were; this raises what `ModelFile` does."""
    if isinstance(data, dict):
        return {name: _file(each) for name, each in data.items()}
    return _file(data) if data is not None else None


def _file(data: Any) -> ModelFile:  # noqa: ANN401 (likewise)
    path, sha256, format, max_bytes = data  # noqa: A001 (the name that the attribute has)
    return ModelFile(path, sha256=sha256, format=format, max_bytes=max_bytes)
