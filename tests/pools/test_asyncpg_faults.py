"""An asyncpg pool when things go wrong: what is refused and how soon, what is said of whom, how it recovers."""

import asyncio
import contextvars
import logging
import random
import re
from typing import Annotated

import asyncpg
import pytest
from fastapi import Depends, FastAPI

from tenure import lifespan, running
from tenure.pools.asyncpg import Connection, Pool, pool
from tenure.pools.errors import PoolExhausted, Unreachable
from tests.pools.apps import SIZE, served
from tests.pools.proxy import Proxy
from tests.pools.silences import answered, outlive_silence
from tests.waiting import until

BACKEND = "SELECT pg_backend_pid()"
GIVEN_UP = 1000
"""Seconds that none of these tests waits: what is bounded by less is not bounded by this."""


async def backends(dsn: str, name: str) -> set[int]:
    """Give the server's own list of the connections of an application."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = $1", name)
        return {row["pid"] for row in found}
    finally:
        await connection.close()


def named(name: str) -> dict[str, object]:
    """Let a pool's connections be known by name at the server."""
    return {"server_settings": {"application_name": name}}


async def test_a_pool_that_is_exhausted_is_said_with_who_holds_it(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client has a 503 that tells when to come again; the log has the holders' routes and lines."""
    database = pool(dsn, max_size=2, acquire_timeout=0.3, name="database")
    app = FastAPI(lifespan=lifespan)
    go_on = asyncio.Event()

    @app.get("/reports/{month}")
    async def report(month: int, pool: Annotated[Pool, Depends(database)]) -> int:
        async with pool.borrow():
            await go_on.wait()
        return month

    @app.get("/probe")
    async def probe(connection: Annotated[Connection, Depends(database.connection)]) -> int:
        return await connection.fetchval("SELECT 1")

    async with served(app, database) as (client, opened):
        held = [asyncio.create_task(client.get(f"/reports/{month}")) for month in range(2)]
        await until(lambda: opened.stats.in_use == 2)
        refused = await client.get("/probe")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json() == {"detail": "the service is too busy at the moment"}
        assert opened.stats.refused == 1
        go_on.set()
        assert [(await answer).status_code for answer in held] == [200, 200]
        assert (await client.get("/probe")).json() == 1
    said = next(record.message for record in caplog.records if "pool-exhausted" in record.message)
    assert "no connection of pool `database` was free within 0.3 s: all 2 are out" in said
    assert (
        len(
            re.findall(
                r"out for [\d.]+ s: GET /reports/\{month\}, borrowed at tests/pools/test_asyncpg_faults.py:\d+", said
            )
        )
        == 2
    )


async def test_who_waits_is_served_in_turn(dsn: str) -> None:
    """A place that is given back goes to who has waited longest."""
    database = pool(dsn, max_size=1)
    async with running(also=[database]) as scope:
        opened = await scope.get(database)
        served: list[int] = []

        async def borrow(number: int) -> None:
            async with opened.borrow():
                served.append(number)

        waiting: list[asyncio.Task[None]] = []
        aside = contextvars.copy_context()  # a task that inherits a borrowed connection does not wait for one
        async with opened.borrow():
            for number in range(5):
                waiting.append(asyncio.get_running_loop().create_task(borrow(number), context=aside.copy()))
                await until(lambda: opened.stats.waiting == len(waiting))
        await asyncio.gather(*waiting)
        assert served == [0, 1, 2, 3, 4]


async def test_a_storm_of_cancellations_leaves_nothing_out(dsn: str) -> None:
    """Of 1,500 requests cancelled at any point, none keeps a connection or costs one, and the next 20 are answered."""
    chance = random.Random(7)  # noqa: S311 (nothing is secret about it)
    database = pool(dsn, max_size=SIZE, min_size=SIZE, options=named("storm"))
    async with running(also=[database, database.connection]) as scope:
        opened, connection = await scope.get(database), await scope.get(database.connection)
        before = await backends(dsn, "storm")

        async def transact() -> None:
            async with connection.transaction():
                await connection.fetchval("SELECT pg_sleep(0.002)")
                await connection.fetchval("SELECT 1")

        async def query() -> None:
            await connection.fetchval("SELECT pg_sleep(0.002)")

        finished = 0
        for _ in range(30):
            tasks = [asyncio.create_task(chance.choice((transact, query))()) for _ in range(50)]
            for task in tasks:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.03), task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            finished += outcomes.count(None)
            assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        await until(lambda: opened.stats.in_use == 0)
        assert [await connection.fetchval("SELECT 1") for _ in range(20)] == [1] * 20
        assert opened.stats.killed == 0
        assert await backends(dsn, "storm") == before
        assert finished > 0


async def test_a_connection_that_is_out_for_long_is_reported_once(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names pool, request and the lines that led to the borrow; what is left at the close is ended."""
    database = pool(dsn, leak_after=0.1, release_timeout=0.2, name="database", options=named("leak"))
    app = FastAPI(lifespan=lifespan)

    kept = []

    async def forgetful(pool: Pool) -> None:
        kept.append(pool.borrow())
        await kept[0].__aenter__()

    @app.get("/leak")
    async def leak(pool: Annotated[Pool, Depends(database)]) -> None:
        await forgetful(pool)

    caplog.set_level(logging.WARNING, "tenure")
    async with served(app, database) as (client, opened):
        await client.get("/leak")
        await until(lambda: opened.stats.leaked == 1)
        await asyncio.sleep(0.6)  # two more looks, at which nothing is to be said
        assert [record.message for record in caplog.records if " is out for " in record.message][1:] == []
        assert opened.stats.in_use == 1
    said = [record.message for record in caplog.records if " is out for " in record.message]
    assert len(said) == 2  # when it was out for too long, and at the close
    for each in said:
        assert "a connection of pool database is out for" in each
        assert re.search(
            r"test_asyncpg_faults.py:\d+ in leak\n  tests/pools/test_asyncpg_faults.py:\d+ in forgetful$", each
        )
    assert await backends(dsn, "leak") == set()


async def test_a_silent_server_is_noticed_and_everyone_refused_until_it_speaks(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for an answer is ended in seconds, others are refused at once, and what follows is answered again."""
    async with Proxy(dsn) as proxy:
        database = pool(
            proxy.dsn,
            max_size=SIZE,
            command_timeout=GIVEN_UP,
            acquire_timeout=GIVEN_UP,
            release_timeout=1,
            name="database",
        )
        async with running(also=[database, database.connection]) as scope:
            opened, connection = await scope.get(database), await scope.get(database.connection)
            await asyncio.gather(*[connection.fetchval("SELECT pg_sleep(0.01)") for _ in range(SIZE)])
            for _ in range(2):
                heard = await outlive_silence(proxy, opened, lambda: connection.fetchval("SELECT 1"), 1)
                assert {type(each) for each in heard} == {Unreachable}
    said = [record.message for record in caplog.records]
    assert said.count("the server of pool database answers again") == 2


async def test_a_silence_while_a_connection_is_given_back_passes_as_any_other(dsn: str) -> None:
    """The watch over the pool goes on: who waits is ended, and what follows the silence is answered."""
    async with Proxy(dsn) as proxy:
        database = pool(proxy.dsn, max_size=2, min_size=2, command_timeout=GIVEN_UP, release_timeout=50)
        async with running(also=[database, database.connection]) as scope:
            connection = await scope.get(database.connection)
            proxy.fall_silent()
            asking, giving_back = (asyncio.create_task(connection.fetchval("SELECT 1")) for _ in range(2))
            await until(lambda: proxy.kept == 2)
            giving_back.cancel()
            with pytest.raises(Unreachable):
                await asking
            assert not giving_back.done()
            proxy.speak()
            with pytest.raises(asyncio.CancelledError):
                await giving_back
            assert await answered(lambda: connection.fetchval("SELECT 1")) == 1


async def test_a_watch_that_fails_is_told_and_goes_on(
    dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in one look at the pool is in the log, and the next look is taken all the same."""
    database = pool(dsn, leak_after=0.01, name="database")
    async with running(also=[database]) as scope:
        opened = await scope.get(database)

        def fails_once(*_: object) -> None:
            monkeypatch.undo()
            raise LookupError

        monkeypatch.setattr("tenure.pools.watch.tell", fails_once)
        for leaked in (1, 2):
            async with opened.borrow():
                await until(lambda leaked=leaked: opened.stats.leaked == leaked)
    (said,) = [record for record in caplog.records if getattr(record, "tenure_event", "") == "watch-failed"]
    assert said.message == "the watch of pool database goes on, although it has failed"
    assert said.__dict__["tenure_pool"] == "database"


async def test_a_statement_that_takes_long_is_not_taken_for_silence(dsn: str) -> None:
    """While the server answers when it is asked, nobody is ended."""
    database = pool(dsn, max_size=SIZE)
    async with running(also=[database.connection]) as scope:
        connection = await scope.get(database.connection)
        slow = [connection.fetchval("SELECT 1 FROM pg_sleep(4)") for _ in range(SIZE)]
        assert await asyncio.gather(*slow) == [1] * SIZE


async def test_a_statement_has_a_deadline(dsn: str) -> None:
    """What takes longer than `command_timeout` is cancelled at the server, and its connection serves others."""
    database = pool(dsn, max_size=1, command_timeout=0.2, options=named("late"))
    async with running(also=[database.connection]) as scope:
        connection = await scope.get(database.connection)
        before = await connection.fetchval(BACKEND)
        with pytest.raises(Unreachable):
            await connection.fetchval("SELECT pg_sleep(50)")
        assert await connection.fetchval(BACKEND) == before
        with pytest.raises(Unreachable):
            async with connection.transaction():
                await connection.fetchval("SELECT pg_sleep(50)")
        assert await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(50)'") <= 1


async def test_connections_that_the_server_has_ended_are_replaced(dsn: str) -> None:
    """All backends killed between two requests: none of the following fails."""
    database = pool(dsn, max_size=SIZE, min_size=SIZE, options=named("victim"))
    async with running(also=[database, database.connection]) as scope:
        connection = await scope.get(database.connection)
        for _ in range(3):
            killer = await asyncpg.connect(dsn)
            gone = await killer.fetch(
                "SELECT pid, pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'victim'"
            )
            await killer.close()
            assert len(gone) >= SIZE
            assert await asyncio.gather(*[connection.fetchval("SELECT 1") for _ in range(20)]) == [1] * 20


async def test_a_transaction_whose_backend_is_ended_says_so(dsn: str) -> None:
    """The statement that meets it is refused as one that may be tried again, and the connection is not lost."""
    database = pool(dsn, max_size=1)
    async with running(also=[database, database.connection]) as scope:
        opened, connection = await scope.get(database), await scope.get(database.connection)

        async def transact() -> None:
            async with connection.transaction() as transaction:
                killer = await asyncpg.connect(dsn)
                await killer.execute("SELECT pg_terminate_backend($1, 5000)", await transaction.fetchval(BACKEND))
                await killer.close()
                await transaction.fetchval("SELECT 1")

        with pytest.raises(Unreachable):
            await transact()
        assert opened.stats.in_use == 0
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_connection_that_was_idle_for_long_is_checked_before_use(dsn: str) -> None:
    """One that leads nowhere is replaced, without an error; one that was used just now is not asked."""
    async with Proxy(dsn) as proxy:
        database = pool(proxy.dsn, max_size=1, check_after=0.05, options=named("idle"))
        async with running(also=[database, database.connection]) as scope:
            connection = await scope.get(database.connection)
            before = await connection.fetchval(BACKEND)
            assert await connection.fetchval(BACKEND) == before
            proxy.forget()
            await asyncio.sleep(0.1)
            assert await connection.fetchval(BACKEND) != before
            assert (await scope.get(database)).stats.in_use == 0


async def test_a_connection_that_cannot_be_given_back_in_time_is_ended_and_counted(dsn: str) -> None:
    """A reset that gets no answer does not hold its request up for longer than `release_timeout`."""
    async with Proxy(dsn) as proxy:
        database = pool(proxy.dsn, max_size=1, release_timeout=0.2)
        async with running(also=[database, database.connection]) as scope:
            opened = await scope.get(database)
            async with asyncio.timeout(20):
                async with opened.borrow():
                    proxy.forget()
                assert opened.stats.killed == 1
                assert await (await scope.get(database.connection)).fetchval("SELECT 1") == 1


async def test_a_borrower_may_wait_for_less_long(dsn: str) -> None:
    """A wait that is said to be short is, whatever the pool's is."""
    database = pool(dsn, max_size=2, acquire_timeout=GIVEN_UP)
    async with running(also=[database]) as scope:
        opened = await scope.get(database)
        go_on = asyncio.Event()

        async def hold() -> None:
            async with opened.borrow():
                await go_on.wait()

        holding = asyncio.create_task(hold())
        await until(lambda: opened.stats.in_use == 1)
        async with opened.borrow(), asyncio.timeout(20):
            with pytest.raises(PoolExhausted):
                async with opened.borrow(separate=True, timeout=0.01):
                    pass
        go_on.set()
        await holding
