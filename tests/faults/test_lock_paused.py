"""A holder of a `Lock` that is stopped past its lease: another has the lock, and the late one can do no harm."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tenure.host import EmbeddedValkey
from tests.roster.service import reachable_folder
from tests.state.lock_holder import TABLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

PROJECT = Path(__file__).parents[2]
HANGS = 30.0
"""Seconds after which a wait of a test has failed."""


@pytest.fixture(params=["valkey", "postgresql"])
def url(request: pytest.FixtureRequest, dsn: str) -> Iterator[str]:
    """Give where locks are kept."""
    if request.param == "postgresql":
        yield dsn
        return
    with reachable_folder() as folder, EmbeddedValkey(folder / "valkey") as server:
        yield server.url()


class Holder:
    """A process that takes the lock."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._told, self._says = process.stdin, process.stdout

    async def says(self) -> str:
        """Wait for the next line that it says."""
        async with asyncio.timeout(HANGS):
            return (await self._says.readline()).decode().strip()

    async def saves(self, body: str) -> str:
        """Let it write; what the table says to it."""
        self._told.write(f"{body}\n".encode())
        return await self.says()

    async def stop(self) -> None:
        """Stop it, and wait until it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    async def leave(self) -> str:
        """Let its block end; what it says of that."""
        self._told.close()
        return await self.says()


@asynccontextmanager
async def holder(url: str, dsn: str) -> AsyncGenerator[Holder]:
    """Start such a process, and see to it that it is gone in the end."""
    words = ["-m", "tests.state.lock_holder", url, dsn]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=PROJECT, stdin=PIPE, stdout=PIPE)
    try:
        yield Holder(process)
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            process.kill()
        await process.communicate()


async def test_a_holder_that_was_stopped_past_its_lease_is_let_out_and_refused_by_its_token(url: str, dsn: str) -> None:
    """Another has the lock and writes; the one that goes on then is cancelled, writes nothing, and has `LockLost`."""
    table = await asyncpg.connect(dsn)
    await table.execute(TABLE)
    async with holder(url, dsn) as late:
        first = int(await late.says())
        assert await late.saves("first") == "UPDATE 1"
        await late.stop()
        async with holder(url, dsn) as other:
            second = int(await other.says())
            assert second > first
            assert await other.saves("second") == "UPDATE 1"
            late.process.send_signal(signal.SIGCONT)
            assert [await late.says() for _ in range(3)] == ["cancelled True", "UPDATE 0", "LockLost"]
            assert await other.saves("third") == "UPDATE 1"
            assert await other.leave() == "held"
    assert await table.fetchrow("SELECT body, token FROM report") == ("third", second)
    await table.close()
