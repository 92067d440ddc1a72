"""How many connections each of several workers has."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import pytest

from tenure import running
from tenure.errors import StartFailed
from tenure.host import locks
from tenure.pools import budget
from tenure.pools.asyncpg import pool
from tenure.pools.errors import BudgetExceeded
from tests.waiting import until

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("connections", "workers", "most", "size"), [(100, 12, None, 8), (20, None, None, 20), (100, 12, 5, 5)]
)
async def test_each_worker_has_its_share(
    dsn: str, connections: int, workers: int | None, most: int | None, size: int
) -> None:
    """A budget is divided among the workers, and one may be content with less."""
    database = pool(dsn, max_connections=connections, workers=workers, max_size=most)
    async with running(also=[database]) as scope:
        assert (await scope.get(database)).stats.size == size


async def test_the_number_of_workers_is_what_servers_are_told(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`WEB_CONCURRENCY`, which uvicorn and gunicorn read, divides a budget as well."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    database = pool(dsn, max_connections=22)
    async with running(also=[database]) as scope:
        assert (await scope.get(database)).stats.size == 5


async def test_a_budget_that_does_not_suffice_is_refused(dsn: str) -> None:
    """Fewer connections than workers are an error at start."""
    database = pool(dsn, max_connections=3, workers=4)
    with pytest.raises(StartFailed, match="3 connections do not suffice for 4 workers") as raised:
        async with running(also=[database]):
            pass
    assert isinstance(raised.value.__cause__, BudgetExceeded)


async def test_a_start_that_is_cancelled_keeps_no_part_of_a_budget(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is cancelled while it takes its part, the next start has it, and need not wait for it."""
    database = pool(dsn, max_connections=4, workers=1, name="database")
    taking, go_on = threading.Event(), threading.Event()
    take = locks.take

    def slowly(path: Path) -> locks.Lock | None:
        part = take(path)
        taking.set()
        go_on.wait(20)
        return part

    async def start() -> int:
        async with running(also=[database]) as scope:
            return (await scope.get(database)).stats.size

    def is_cancelled() -> bool:
        return any(task.cancelling() for task in asyncio.all_tasks() if task.get_name() == "tenure: database")

    monkeypatch.setattr(locks, "take", slowly)
    monkeypatch.setattr(budget, "PATIENCE", 0)
    starting = asyncio.create_task(start())
    await until(taking.is_set)
    starting.cancel()
    await until(is_cancelled)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await start() == 4


@pytest.fixture
def start(dsn: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Give what starts one of two workers; all are ended."""
    with ExitStack() as stack:

        def starting() -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.pools.budgeted", dsn, "10", "2"]
            environment = {**os.environ, "TENURE_DEPLOYMENT": f"budget-{os.getpid()}"}
            worker = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(worker)
            stack.callback(worker.kill)
            return worker

        yield starting


def said(worker: subprocess.Popen[str]) -> str:
    """Wait for what a worker says."""
    return cast("IO[str]", worker.stdout).readline().strip()


def test_a_worker_too_many_is_refused_and_one_that_follows_a_killed_one_is_not(
    start: Callable[[], subprocess.Popen[str]],
) -> None:
    """With two workers on the budget of two a third does not start; when one was killed, the next has its part."""
    first, second = start(), start()
    assert (said(first), said(second)) == ("5", "5")
    assert "may have 10 connections in 2 workers, and there are more workers than that" in said(start())
    first.kill()
    first.wait()
    assert said(start()) == "5"
