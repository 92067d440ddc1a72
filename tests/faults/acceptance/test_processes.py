"""A count without any server: exact from threads and processes, also while these come and are killed."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.acceptance.machines import PATIENCE, until
from tests.faults.acceptance.processes import (
    Process,
    add_in_threads,
    add_together,
    add_until_killed,
    by_app,
    by_host,
    started,
)
from tests.state.sharers import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 40
ALIVE = 4
EACH = 250_000

pytestmark = pytest.mark.timeout(240)  # millions of adds, which take far longer where coverage is measured


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the folder that all processes of a machine have in common."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    yield place
    shutil.rmtree(place)


async def test_a_process_loses_no_add_of_its_threads() -> None:
    """Eight threads of a process add 200,000 times each."""
    async with started(by_app) as scope:
        counter = await scope.get(by_app)
        began = time.monotonic()
        await asyncio.to_thread(add_in_threads, counter, 8, 200_000)
        print(f"1.6 million adds took {time.monotonic() - began:.1f} s")
        assert counter.value == 1_600_000


def test_four_processes_lose_no_add_of_their_threads(machine: Path) -> None:
    """Four threads of each of four processes add 250,000 times each, and all of them see the sum."""
    together, values = processes.Barrier(4, timeout=PATIENCE), processes.Queue()
    began = time.monotonic()
    adding = [Process(machine, add_together, 4, EACH, together, values) for _ in range(4)]
    seen = {values.get(timeout=PATIENCE) for _ in adding}
    print(f"4 million adds took {time.monotonic() - began:.1f} s, with the start of the processes")
    assert seen == {4 * 4 * EACH}
    for each in adding:
        each.process.join(PATIENCE)
        assert each.process.exitcode == 0


def taken(machine: Path) -> dict[str, int]:
    """Tell which files there are, and how much of the device each takes."""
    return {str(path.relative_to(machine)): path.stat().st_blocks for path in machine.rglob("*") if path.is_file()}


async def test_forty_kills_lose_no_add_and_leave_nothing_behind(machine: Path) -> None:
    """Of four processes one is killed -9 while it adds, and another comes, 40 times: the count is right each time."""
    sent, acknowledged = (processes.RawArray("Q", ALIVE + KILLS) for _ in range(2))
    chance = random.Random(40)  # noqa: S311 (no secret)
    async with started(by_host) as scope:
        counter = await scope.get(by_host)
        alive: dict[int, Process] = {}
        try:
            files: dict[str, int] = {}
            for number in range(ALIVE + KILLS):
                if number >= ALIVE:
                    alive.pop(chance.choice(sorted(alive))).kill()
                    least = sum(acknowledged)
                    value = counter.value
                    assert least <= value <= sum(sent)
                alive[number] = Process(machine, add_until_killed, number, sent, acknowledged)
                await asyncio.to_thread(until, lambda: acknowledged[number] > 100)  # noqa: B023 (at once)
                if number == ALIVE:
                    files = taken(machine)
        finally:
            for each in alive.values():
                each.kill()
        assert sum(acknowledged) <= counter.value <= sum(sent) <= sum(acknowledged) + len(sent)
        assert taken(machine) == files
        print(
            f"acknowledged {sum(acknowledged)}, counted {counter.value}, sent {sum(sent)}; {sum(files.values())} blocks"
        )
