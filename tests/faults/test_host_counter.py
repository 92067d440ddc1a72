"""A count that the workers of a machine share, while they are killed."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.faults.serving import connected, served

APP = "tests.faults.counting:app"
REQUESTS = 600
CLIENTS = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder for what processes share, and that no other user can enter."""
    tmp_path.chmod(0o700)
    return tmp_path


async def test_a_worker_killed_under_load_takes_no_count_with_it(folder: Path, port: int) -> None:
    """Of 4 workers one is killed -9 under load: every add that was answered counts, and none that was not sent."""
    acknowledged, pids = 0, set[int]()
    left = iter(range(REQUESTS))
    with served(APP, port, 4, TENURE_DEPLOYMENT="killed", XDG_RUNTIME_DIR=str(folder)):
        async with connected(port, "/value") as client:

            async def press() -> None:
                nonlocal acknowledged
                for number in left:
                    try:
                        _, pid = (await client.get("/add")).json()
                    except httpx.TransportError:  # of the worker that was killed
                        continue
                    acknowledged += 1
                    pids.add(pid)
                    if number == REQUESTS // 2:
                        os.kill(pid, signal.SIGKILL)

            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(press())
            values = {(await client.get("/value")).json() for _ in range(12)}
    assert len(pids) > 1
    assert len(values) == 1
    assert acknowledged <= values.pop() <= REQUESTS


async def test_the_count_begins_anew_when_no_worker_is_left(folder: Path, port: int) -> None:
    """Workers that are started after all others have gone begin at 0."""
    for _ in range(2):
        with served(APP, port, 2, TENURE_DEPLOYMENT="anew", XDG_RUNTIME_DIR=str(folder)):
            async with connected(port, "/value") as client:
                values = [(await client.get("/add")).json()[0] for _ in range(10)]
        assert values == list(range(1, 11))
