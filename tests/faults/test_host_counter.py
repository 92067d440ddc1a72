"""A count that the workers of a machine share, while they are killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

PATIENCE = 30
REQUESTS = 600
CLIENTS = 16


@contextmanager
def served(port: int, workers: int, folder: Path, deployment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the app with several workers of uvicorn, and stop it."""
    command = ["uvicorn", "counting:app", "--port", str(port), "--workers", str(workers), "--log-level", "warning"]
    environment = {**os.environ, "TENURE_DEPLOYMENT": deployment, "XDG_RUNTIME_DIR": str(folder)}
    server = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=Path(__file__).parent, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """Wait until the server answers, and give a client whose every request may meet another worker."""
    limits = httpx.Limits(max_keepalive_connections=0)
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE, limits=limits) as client:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await client.get("/value")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    break
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder for what processes share, and that no other user can enter."""
    tmp_path.chmod(0o700)
    return tmp_path


async def test_a_worker_killed_under_load_takes_no_count_with_it(folder: Path, port: int) -> None:
    """Of 4 workers one is killed -9 under load: every add that was answered counts, and none that was not sent."""
    acknowledged, pids = 0, set[int]()
    left = iter(range(REQUESTS))
    with served(port, 4, folder, "killed"):
        async with connected(port) as client:

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
        with served(port, 2, folder, "anew"):
            async with connected(port) as client:
                values = [(await client.get("/add")).json()[0] for _ in range(10)]
        assert values == list(range(1, 11))
