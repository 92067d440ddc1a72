"""Several workers: one killed under load, a number of connections that they share, and processes that are forked."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.faults.pools.load import Load
from tests.faults.pools.serving import APPS, DEADLINE, GUNICORN, ROOT, STARTS, Server, until
from tests.faults.pools.settings import SIZE

pytestmark = pytest.mark.timeout(180)  # up to a dozen processes that start, on a machine that may be busy

WORKERS = 4
MANY = 12
ALLOWED = 100
"""Connections that the server allows to a role, as PostgreSQL does to all unless told otherwise."""


@asynccontextmanager
async def limited(dsn: str) -> AsyncIterator[str]:
    """Give the address for a role that may have no more connections than that."""
    operator = await asyncpg.connect(dsn)
    await operator.execute(f"CREATE ROLE limited LOGIN CONNECTION LIMIT {ALLOWED}")
    try:
        yield urlsplit(dsn)._replace(netloc="limited@").geturl()
    finally:
        await operator.execute("DROP ROLE limited")
        await operator.close()


async def test_a_killed_worker_takes_its_connections_with_it_and_another_has_its_part(server: Server) -> None:
    """
    Of 4 workers one is killed -9 under load: its connections end, others go on answering, and one takes its place.

    At no time are there more connections than the four may have.
    """
    async with server.serving(workers=WORKERS, max_connections=WORKERS * SIZE) as served:
        load = Load(16)
        most = 0
        async with load.upon(served):
            await load.until_answered(200, 201)
            victim = max(load.clients[1].workers)
            assert len(await served.sessions(worker=victim)) == SIZE
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()

            async def its_connections_are_gone() -> bool:
                return not await served.sessions(worker=victim)

            gone = await until(its_connections_are_gone)
            await load.until_answered(200, 201)

            async def it_is_replaced() -> bool:
                nonlocal most
                most = max(most, len(await served.sessions()))
                return len(served.said("opened")) == WORKERS + 1

            await until(it_is_replaced, lambda: served.log, STARTS)
            replaced = time.monotonic() - killed
            await load.until_answered(200, 201)
        print(f"{server.kind}: its connections were gone after {gone:.2f} s, it was replaced after {replaced:.1f} s")
        (new,) = set(served.said("opened")[WORKERS:])
        assert len(await served.sessions(worker=new)) == SIZE
        assert most <= WORKERS * SIZE
        assert {answer.status for answer in load.refused()} <= {0}
        assert len(load.refused()) <= len(load.clients)
        assert all(answer.at >= killed for answer in load.refused())
        answered = {worker for client in load.clients for worker in client.workers}
        assert answered > {victim}


async def test_a_dozen_workers_share_the_connections_that_a_server_allows(server: Server, dsn: str) -> None:
    """Twelve workers on 100 connections start, each with 8, all of them open at once."""
    async with (
        limited(dsn) as address,
        server.serving(GUNICORN, MANY, by=address, max_size=MANY, min_size=MANY, max_connections=ALLOWED) as served,
    ):
        counts = [len(await served.sessions(worker=worker)) for worker in served.said("opened")]
        assert counts == [ALLOWED // MANY] * MANY
        assert (await served.ready())["size"] == ALLOWED // MANY
        assert (await served.client.get("/echo/1")).json()["number"] == 1


async def test_what_a_server_has_loaded_before_it_forks_has_no_connection(server: Server) -> None:
    """Under `gunicorn --preload` 400 of 400 answers are right, and no connection is shared by two workers."""
    async with server.serving(GUNICORN, WORKERS) as served:
        gate = asyncio.Semaphore(16)

        async def echoed(number: int) -> tuple[int, int]:
            async with gate:
                answer = await served.client.get(f"/echo/{number}", headers={"Connection": "close"})
            assert answer.json()["number"] == number
            return answer.json()["session"], answer.json()["worker"]

        pairs = set(await asyncio.gather(*[echoed(number) for number in range(400)]))
        assert len(pairs) == len({session for session, _ in pairs})
        workers = served.said("opened")
        assert len(set(workers)) == WORKERS
        assert served.process.pid not in workers
        assert {worker for _, worker in pairs} <= set(workers)
        assert await served.sessions(worker=served.process.pid) == set()


@pytest.mark.parametrize("server", APPS, indirect=True)
async def test_a_forked_child_is_refused_and_its_parent_unharmed(server: Server, dsn: str) -> None:
    """An app that was started before a fork is refused to the child by both processes' numbers, as is its pool."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.pools.forked",
        cwd=ROOT,
        env={
            **os.environ,
            "DSN": dsn,
            "KNOBS": "{}",
            "POOL": server.kind,
            "NAME": "forked",
            "MODULE": APPS[server.kind],
        },
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the child too, if it waits
        await process.wait()
    told = next(json.loads(line) for line in output.splitlines() if line.startswith(b"{"))
    both = f"was started in process {told['parent']} and used in process {told['child']}"
    assert both in told["request"]
    assert both in told["pool"]
    assert told["before"] == told["after"]
    assert told["right"] is True
