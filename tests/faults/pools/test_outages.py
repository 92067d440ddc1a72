"""PostgreSQL killed, restarted or silent under load: what clients are answered, and how soon all is well again."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import asyncpg
import pytest

from tenure.host.postgres import EmbeddedPostgres
from tests.faults.pools.load import Load
from tests.faults.pools.serving import APPS, DEADLINE, Server, until
from tests.faults.pools.settings import SIZE
from tests.faults.test_postgres_engine import kill, pid
from tests.pools.proxy import Proxy
from tests.roster.service import reachable_folder

CLIENTS = 20
WELL = (200, 201)
pytestmark = pytest.mark.parametrize("server", APPS, indirect=True)
LONGEST = 5
"""Seconds for which a connection is waited for."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Run a server that may be killed, and is started again."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as postgres:
        yield postgres


def restart(postgres: EmbeddedPostgres) -> None:
    """Have a server end in good order, as an operator does; its keeper starts another."""
    os.kill(pid(postgres), signal.SIGINT)


async def until_it_accepts(dsn: str) -> float:
    """Wait until a server that was ended takes connections, and give the moment."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(dsn)
                accepts = time.monotonic()
                await connection.close()
                return accepts
            await asyncio.sleep(0.005)


async def rows(dsn: str) -> set[int]:
    """Give the rows that there are."""
    connection = await asyncpg.connect(dsn)
    found = {row["id"] for row in await connection.fetch("SELECT id FROM written")}
    await connection.close()
    return found


class Lingering(Proxy):
    """Brings the server's last words on a connection, and not its end."""

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with suppress(EOFError):
            await super()._pump(reader, writer, flows)
        await asyncio.Event().wait()


@pytest.mark.parametrize("end", [kill, restart])
async def test_a_restarted_database_is_used_again_at_once(
    server: Server, postgres: EmbeddedPostgres, end: Callable[[EmbeddedPostgres], None]
) -> None:
    """
    While it is away clients have 503, no wait passes its deadline, and when it is back all is well, without a restart.

    What was acknowledged is there.
    """
    dsn = postgres.dsn()
    async with server.serving(dsn=dsn, acquire_timeout=LONGEST) as served:
        load = Load(CLIENTS)
        async with load.upon(served):
            await load.until_answered(*WELL)
            gone = time.monotonic()
            await asyncio.to_thread(end, postgres)
            accepts = await until_it_accepts(dsn)
            await load.until_answered(*WELL)
        refused = load.refused()
        last = max((answer.at for answer in refused), default=accepts)
        print(
            f"{server.kind}, {end.__name__}: away for {accepts - gone:.2f} s, {len(refused)} were refused, the last "
            f"{last - accepts:.3f} s after it was back; the longest wait was {load.longest():.2f} s"
        )
        assert refused
        assert {answer.status for answer in refused} == {503}
        assert all(answer.at >= gone for answer in refused)
        assert last - accepts < DEADLINE / 3
        assert load.longest() < DEADLINE / 2
        assert load.lost(await rows(dsn)) == set()
        assert len(served.said("opened")) == 1


async def test_a_database_that_is_silent_is_waited_for_by_nobody(server: Server, dsn: str) -> None:
    """Who waits has 503 in seconds, who comes later at once, and when it speaks all is well; nothing is lost."""
    async with Proxy(dsn) as proxy, server.serving(by=proxy.dsn, acquire_timeout=600, command_timeout=600) as served:
        load = Load(CLIENTS)
        async with load.upon(served):
            await load.until_answered(*WELL)
            proxy.fall_silent()
            silent = time.monotonic()
            await load.until_answered(503, times=1)
            noticed = time.monotonic()
            await load.until_answered(503)
            refused = load.refused()
            at_once = sorted(answer.at - answer.asked for answer in refused if answer.asked > noticed)
            ready = await served.ready()
            proxy.speak()
            spoke = time.monotonic()
            await load.until_answered(*WELL)
        last = max(answer.at for answer in load.refused())
        print(
            f"{server.kind}: the longest wait was {load.longest():.2f} s; those after it were refused within "
            f"{at_once[len(at_once) // 2]:.4f} s, at most {at_once[-1]:.3f} s; all was well {last - spoke:.2f} s "
            "after it spoke"
        )
        assert {answer.status for answer in load.refused()} == {503}
        assert all(answer.at >= silent for answer in refused)
        assert load.longest() < DEADLINE / 3
        assert last - spoke < DEADLINE / 3
        assert ready["waiting"] == 0
        assert load.lost(await rows(dsn)) == set()
        await served.until_all_idle()


async def test_connections_that_end_slowly_are_no_mistake_of_the_program(server: Server, dsn: str) -> None:
    """Who meets one that the server has given up, and that is not closed yet, has 503; it is never met again."""
    async with Lingering(dsn) as proxy, server.serving(by=proxy.dsn) as served:
        gone = await served.sessions()
        for session in gone:
            await served.observer.execute("SELECT pg_terminate_backend($1, 10000)", session)
        statuses = [(await served.client.get("/echo/1")).status_code for _ in range(20)]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= SIZE
        assert statuses[-1] == 200
        assert await served.sessions() & gone == set()
        assert (await served.ready())["in_use"] == 0


async def test_an_app_ends_although_its_database_is_silent(server: Server, dsn: str) -> None:
    """On SIGTERM, with requests that wait for an answer of it and others that wait for them, the process exits."""
    async with Proxy(dsn) as proxy, server.serving(by=proxy.dsn, acquire_timeout=600, command_timeout=600) as served:
        proxy.fall_silent()
        for number in range(CLIENTS):
            await served.sends(f"POST /rows/{number}")

        async def all_wait() -> bool:
            ready = await served.ready()
            return (ready["in_use"], ready["waiting"]) == (SIZE, CLIENTS - SIZE)

        await until(all_wait, lambda: served.log)
        took = await served.exits()
        print(f"{server.kind}: it has exited {took:.2f} s after SIGTERM, with a silent database")
        assert took < DEADLINE / 2
