"""How many connections each of several workers has."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import pytest

from tenure import running
from tenure.errors import StartFailed
from tenure.pools.asyncpg import pool
from tenure.pools.errors import BudgetExceeded

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
