"""An array that lies in memory once for all workers of a machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tenure import SharedArray, running, scoped
from tenure.errors import DeclarationError, StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
PATIENCE = 30


class Worker:
    """One worker."""

    def __init__(self, folder: Path, size: int) -> None:
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "ARRAY_BYTES": str(size)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.state.array_worker"],
            cwd=PROJECT,
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def told(self) -> Any:
        """Give the next line that it tells."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def memory(self) -> int:
        """Give its memory now."""
        assert self.process.stdin is not None
        self.process.stdin.write("memory\n")
        self.process.stdin.flush()
        return int(self.told())

    def leave(self) -> None:
        """Let it end in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0


@pytest.fixture
def workers(folder: Path) -> Iterator[list[Worker]]:
    """Give a list whose workers are ended with the test."""
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.process.kill()
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            if pipe is not None:
                pipe.close()


def files(folder: Path) -> list[Path]:
    """Give the files of arrays that are left."""
    return list(folder.rglob("*.array-*"))


def test_one_worker_makes_it_and_all_see_it(folder: Path, workers: list[Worker]) -> None:
    """Three workers have the same numbers, none can write them, and one has made them; nothing is left in the end."""
    workers += [Worker(folder, 8_000_000) for _ in range(3)]
    told = [worker.told() for worker in workers]
    expected = int((np.arange(8_000_000, dtype=np.uint8) % 251).sum())
    assert told == [{"sum": expected, "weights": np.linspace(0, 1, 11).tolist(), "read_only": True}] * 3
    assert len((folder / "made").read_text().split()) == 1
    assert {path.stat().st_mode & 0o777 for path in files(folder)} == {0o600}
    for worker in workers:
        worker.leave()
    assert files(folder) == []


def test_it_outlives_the_worker_that_made_it(folder: Path, workers: list[Worker]) -> None:
    """The maker is killed, and who comes later maps the same memory; who comes after all were killed makes it anew."""
    workers.append(Worker(folder, 80_000))
    workers[0].told()
    workers.append(Worker(folder, 80_000))
    workers[1].told()
    maker = int((folder / "made").read_text())
    os.kill(maker, signal.SIGKILL)
    workers.append(Worker(folder, 80_000))
    workers[2].told()
    assert len((folder / "made").read_text().split()) == 1
    for worker in workers:
        worker.process.kill()
        worker.process.wait()
    workers.append(Worker(folder, 80_000))
    workers[3].told()
    assert len((folder / "made").read_text().split()) == 2
    workers[3].leave()
    assert files(folder) == []


def test_four_workers_share_its_memory(folder: Path, workers: list[Worker]) -> None:
    """200 MB are in the memory of four workers once: together they have not much more than one of them has alone."""
    size = 200_000_000
    workers.append(Worker(folder, size))
    workers[0].told()
    alone = workers[0].memory()
    workers += [Worker(folder, size) for _ in range(3)]
    for worker in workers[1:]:
        worker.told()
    together = sum(worker.memory() for worker in workers)
    print(f"one {alone / 1e6:.0f} MB, four {together / 1e6:.0f} MB, {together / alone:.2f} times")
    assert together < alone + 3 * 80_000_000


async def test_at_app_scope_it_is_an_array_of_the_process() -> None:
    """The same class without workers: read-only, and no file."""

    @scoped("app")
    def own() -> SharedArray:
        return SharedArray(np.arange(3))

    async with running(also=[own]) as scope:
        array = (await scope.get(own)).array
    assert array.tolist() == [0, 1, 2]
    assert not array.flags.writeable


def test_what_holds_objects_is_refused() -> None:
    """An array of Python objects is no plain memory."""
    with pytest.raises(DeclarationError, match="more than its own memory"):
        SharedArray(np.array([{}]))


@scoped("host")
def too_large() -> SharedArray:
    """Want more than there is."""
    return SharedArray.filled((1 << 62,), np.uint8, lambda memory: memory.fill(1))


@scoped("cluster")
def everywhere() -> SharedArray:
    """Want it on all machines."""
    return SharedArray(np.arange(3))


async def test_one_without_room_fails_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is written, and nothing is left."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    with pytest.raises(StartFailed, match="there is no room for a shared array of"):
        async with running(also=[too_large]):
            pass
    assert await asyncio.to_thread(files, folder) == []


async def test_one_for_all_machines_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is one machine's."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("TENURE_DEPLOYMENT", "arrays")
    monkeypatch.setenv("TENURE_STATE", "valkey://127.0.0.1:1")
    with pytest.raises(DeclarationError, match="one machine's memory"):
        async with running(also=[everywhere]):
            pass
