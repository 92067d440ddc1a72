"""Workers that share what is done once: real processes that start an app, and leave or are killed as they are told."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends
from pydantic import BaseModel

from tenure import running, scoped
from tenure.errors import TenureError
from tenure.host import locks

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PATIENCE = 30

processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.state.sharers"])


def here(name: str) -> Path:
    """Give a file of the test's folder."""
    return Path(os.environ["XDG_RUNTIME_DIR"], name)


def note(what: str) -> None:
    """Write down what is done, for all processes in one order."""
    with here("notes").open("a") as notes:
        notes.write(f"{what} {os.getpid()}\n")


async def gate(name: str) -> None:
    """Wait until the test opens a gate."""
    while not here(name).exists():
        await asyncio.sleep(0.01)


class Revision(BaseModel):
    """What a migration gives."""

    number: int
    by: int


@scoped("host")
async def migrated() -> Revision:
    """Take as long as the test wants."""
    note("migrated")
    await gate("migrate")
    return Revision(number=42, by=os.getpid())


@scoped("host")
def hashed() -> bytes:
    """Run in a thread."""
    note("hashed")
    return b""


@scoped("host")
async def failing() -> None:
    """Fail, until it is mended."""
    note("failing")
    await gate("fail")
    if not here("mended").exists():
        msg = "no such table"
        raise RuntimeError(msg)


@scoped("host", start_timeout=3)
async def slow() -> None:
    """Take too long."""
    note("slow")
    await gate("never")


@scoped("host")
async def server(revision: Annotated[Revision, Depends(migrated)]) -> AsyncIterator[str]:
    """Give another address each time."""
    note("opened")
    yield f"{revision.number} {os.getpid()}"
    note("closed")


@scoped("host", close_timeout=1)
def impatient() -> Iterator[str]:
    """Wait half a second for others, in threads."""
    note("opened")
    yield "always the same"
    note("closed")


@scoped("host")
async def fragile() -> AsyncIterator[int]:
    """Open only when it may, and break when it is told to."""
    note("opening")
    await gate("open")
    if here("broken").exists():
        here("broken").unlink()
        note("broken")
        raise OSError
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(broken())
        yield 1
        watch.cancel()


async def broken() -> None:
    """Fail in the background."""
    await gate("break")
    here("break").unlink()
    msg = "the line was cut"
    raise ConnectionError(msg)


@scoped("host", close_timeout=0.4)
async def only() -> AsyncIterator[str]:
    """Tell when two are open at once."""
    lock = locks.take(here("only"))
    note("opened" if lock else "twice")
    yield "always the same"
    if lock:
        lock.release()


@scoped("host", close_timeout=0.5)
async def stubborn() -> AsyncIterator[int]:
    """Never end."""
    yield 1
    while True:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            note("swallowed")


class Worker:
    """A process with an app that takes one resource."""

    def __init__(self, folder: Path, resource: str) -> None:
        self._connection, theirs = processes.Pipe()
        self.process = processes.Process(target=_work, args=(theirs, folder, resource), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def value(self) -> Any:
        """Wait until its app has started, and give the value; raise what its start has met."""
        if not self._connection.poll(PATIENCE):
            pytest.fail("the worker does not answer")
        answer = self._connection.recv()
        if isinstance(answer, TenureError):
            self.process.join(PATIENCE)
            raise answer
        return answer

    def fork(self) -> None:
        """Let it leave a child behind, which outlives it."""
        self._connection.send("fork")
        assert self._connection.recv() == "forked"

    def tell_to_leave(self) -> None:
        """Ask it to end in good order."""
        self._connection.send("leave")

    def leave(self) -> None:
        """Let it end in good order."""
        self.tell_to_leave()
        self.gone()

    def gone(self) -> None:
        """Wait until it has ended."""
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0

    def kill(self) -> None:
        """End it as nobody can expect."""
        self.process.kill()
        self.process.join(PATIENCE)


def _work(connection: Connection, folder: Path, resource: str) -> None:
    os.environ |= {"XDG_RUNTIME_DIR": str(folder), "TENURE_DEPLOYMENT": "test"}
    logging.basicConfig(filename=here("log"), format="%(process)d %(message)s", level=logging.INFO)
    asyncio.run(_serve(connection, RESOURCES[resource]))


async def _serve(connection: Connection, resource: Any) -> None:
    try:
        async with running(also=[resource]) as scope:
            connection.send(await scope.get(resource))
            while (order := await asyncio.to_thread(connection.recv)) != "leave":
                _fork(connection, order)
    except TenureError as error:
        connection.send(error)


def _fork(connection: Connection, order: str) -> None:
    assert order == "fork"
    child = os.fork()
    if child == 0:
        while not here("end").exists():
            time.sleep(0.05)
        os._exit(0)
    connection.send("forked")


RESOURCES: dict[str, Any] = {
    each.name: each for each in (migrated, hashed, failing, slow, server, impatient, fragile, only, stubborn)
}

Start = Callable[[str], Worker]


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Give what starts a worker with a resource; all are killed in the end."""
    folder.chmod(0o700)
    started: list[Worker] = []

    def start(resource: str) -> Worker:
        started.append(Worker(folder, resource))
        return started[-1]

    yield start
    (folder / "end").touch()
    for worker in started:
        worker.kill()


def notes(folder: Path) -> list[str]:
    """Tell what has been done, by all processes, in order."""
    try:
        return [line.split()[0] for line in (folder / "notes").read_text().splitlines()]
    except FileNotFoundError:
        return []


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it never is."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it has not become so in time")
        time.sleep(0.01)


def logged(folder: Path, text: str) -> Callable[[], bool]:
    """Give what tells whether any worker has logged something."""
    return lambda: (folder / "log").exists() and text in (folder / "log").read_text()
