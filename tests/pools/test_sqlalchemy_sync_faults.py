"""A sync SQLAlchemy engine when things go wrong: what is refused, what is said of whom, how it recovers."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tenure import lifespan, running
from tenure.errors import AlreadyClosed, StartFailed
from tenure.pools.errors import NestedBorrow, PoolExhausted, Unreachable
from tenure.pools.sqlalchemy import SyncEnginePool, sync_engine
from tests.pools.apps import SIZE, served
from tests.pools.proxy import Proxy
from tests.pools.silences import outlive_silence
from tests.pools.storms import storm
from tests.pools.tables import BACKEND, asked, backends, kill
from tests.waiting import until

ONE = text("SELECT 1")
GIVEN_UP = 1000
"""Seconds that none of these tests waits: what is bounded by less is not bounded by this."""


def named(name: str) -> dict[str, object]:
    """Let an engine's connections be known by name at the server."""
    return {"connect_args": {"application_name": name}}


def one(session: Session, query: str = "SELECT 1") -> object:
    """Ask for one value."""
    return session.scalar(text(query))


async def test_a_pool_that_is_exhausted_is_said_with_who_holds_it(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client has a 503 that tells when to come again; the log has the holders' routes and lines."""
    database = sync_engine(dsn, max_size=2, acquire_timeout=0.3, name="database")
    app = FastAPI(lifespan=lifespan)
    go_on = threading.Event()

    @app.get("/reports/{month}")
    def report(month: int, session: Annotated[Session, Depends(database.session)]) -> int:
        session.execute(ONE)
        go_on.wait()
        return month

    @app.get("/task")
    async def task(pool: Annotated[SyncEnginePool, Depends(database.pool)]) -> object:
        return await pool.run(one)

    async with served(app, database.pool) as (client, opened):
        held = [asyncio.create_task(client.get(f"/reports/{month}")) for month in range(2)]
        await until(lambda: opened.stats.in_use == 2)
        refused = await client.get("/task")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        go_on.set()
        assert [(await answer).status_code for answer in held] == [200, 200]
        assert (await client.get("/reports/4")).json() == 4
    said = next(record.message for record in caplog.records if "pool-exhausted" in record.message)
    assert len(re.findall(r"out for [\d.]+ s: GET /reports/\{month\}, borrowed at ", said)) == 2


async def test_a_second_place_that_could_never_be_had_is_refused(dsn: str) -> None:
    """Five requests that hold a session and run work beside it: one is refused at once, the others are answered."""
    database = sync_engine(dsn, max_size=SIZE, acquire_timeout=GIVEN_UP)
    app = FastAPI(lifespan=lifespan)
    all_hold = asyncio.Barrier(SIZE)

    @app.get("/")
    async def nested(
        session: Annotated[Session, Depends(database.session)], pool: Annotated[SyncEnginePool, Depends(database.pool)]
    ) -> bool:
        first = await asyncio.to_thread(one, session, BACKEND)
        await all_hold.wait()
        return await pool.run(one, BACKEND) != first

    async with served(app, database.pool) as (client, opened), asyncio.timeout(30):
        answers = await asyncio.gather(*[client.get("/") for _ in range(SIZE)])
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 503]
        assert (opened.stats.in_use, opened.stats.refused) == (0, 1)
        async with opened.session() as session:
            assert await asyncio.to_thread(one, session) == 1
            places = [opened.session() for _ in range(SIZE - 1)]
            for place in places:
                await place.__aenter__()
            with pytest.raises(NestedBorrow):
                await opened.run(one)
            for place in places:
                await place.__aexit__(None, None, None)


@pytest.mark.parametrize("by", ["task", "scope"])
async def test_a_storm_of_cancellations_leaves_nothing_out(dsn: str, by: str) -> None:
    """Of 1,000 requests cancelled at any point, none keeps a place or its thread, and the next 20 are answered."""
    database = sync_engine(dsn, max_size=SIZE, options=named(f"sync storm by {by}"))
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def query(session: Annotated[Session, Depends(database.session)]) -> int:
        session.execute(text("SELECT pg_sleep(0.002)"))
        session.execute(ONE)
        return 1

    async with served(app, database.pool) as (client, opened):

        async def request() -> int:
            return (await client.get("/")).status_code

        assert await storm(request, by, 20) > 0
        await until(lambda: opened.stats.in_use == 0)
        assert [await request() for _ in range(20)] == [200] * 20
        assert opened.stats.open <= SIZE
        assert len(await backends(dsn, f"sync storm by {by}")) <= SIZE


async def test_a_thread_that_was_given_up_does_nothing_more(dsn: str) -> None:
    """Its statement is cancelled at the server, and its next one is refused, on no one else's connection."""
    database = sync_engine(dsn, max_size=1, command_timeout=GIVEN_UP, options=named("given up"))
    app = FastAPI(lifespan=lifespan)
    ended = threading.Event()
    met: list[type[Exception]] = []

    @app.get("/")
    def query(session: Annotated[Session, Depends(database.session)]) -> None:
        for _ in range(2):
            try:
                session.execute(text("SELECT pg_sleep(900)"))
            except Exception as error:  # noqa: BLE001 (whatever a program might catch)
                met.append(type(error))
        ended.set()

    async with served(app, database.pool) as (client, opened):
        before = await opened.run(one, BACKEND)
        request = asyncio.create_task(client.get("/"))
        sleeping = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(900)' AND state = 'active'"
        while not await asked(dsn, sleeping):
            await asyncio.sleep(0.01)
        request.cancel()
        await asyncio.wait([request], timeout=20)
        assert request.cancelled()
        assert await asyncio.to_thread(ended.wait, 20)
        assert met[1] is AlreadyClosed
        assert opened.stats.in_use == 0
        assert await opened.run(one, BACKEND) != before
        assert not await asked(dsn, sleeping)


async def test_a_connection_that_is_out_for_long_is_reported_once(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names pool, request and the lines that led to the borrow; what is left at the close is ended."""
    database = sync_engine(dsn, leak_after=0.1, release_timeout=0.2, name="database", options=named("sync leak"))
    app = FastAPI(lifespan=lifespan)
    kept = []

    @app.get("/leak")
    def leak(engine: Annotated[Engine, Depends(database)]) -> None:
        kept.append(engine.connect())
        kept[0].execute(ONE)

    caplog.set_level(logging.WARNING, "tenure")
    async with served(app, database.pool) as (client, opened):
        await client.get("/leak")
        await until(lambda: opened.stats.leaked == 1)
        assert opened.stats.in_use == 1
    said = [record.message for record in caplog.records if " is out for " in record.message]
    assert len(said) == 2  # when it was out for too long, and at the close
    for each in said:
        assert "a connection of pool database is out for" in each
        assert "test_sqlalchemy_sync_faults.py" in each
    assert await backends(dsn, "sync leak") == set()
    with pytest.raises(Unreachable):
        await asyncio.to_thread(kept[0].execute, ONE)
    await asyncio.to_thread(kept[0].close)


async def test_a_silent_server_is_noticed_and_everyone_refused_until_it_speaks(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads that wait for an answer are ended in seconds, others refused at once, and what follows is answered."""
    async with Proxy(dsn) as proxy:
        database = sync_engine(
            proxy.dsn,
            max_size=SIZE,
            command_timeout=GIVEN_UP,
            acquire_timeout=GIVEN_UP,
            release_timeout=1,
            name="database",
        )
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            await asyncio.gather(*[opened.run(one, "SELECT pg_sleep(0.01)") for _ in range(SIZE)])
            for _ in range(2):
                heard = await outlive_silence(proxy, opened, lambda: opened.run(one), 1)
                assert {type(each) for each in heard} == {Unreachable}
    said = [record.message for record in caplog.records]
    assert said.count("the server of pool database answers again") == 2


async def test_a_statement_has_a_deadline(dsn: str) -> None:
    """What takes longer than `command_timeout` is cancelled by the server, and its connection serves others."""
    database = sync_engine(dsn, max_size=1, command_timeout=0.2)
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        before = await opened.run(one, BACKEND)
        with pytest.raises(Unreachable, match="statement timeout"):
            await opened.run(one, "SELECT pg_sleep(50)")
        assert await opened.run(one, BACKEND) == before


async def test_a_statement_whose_answer_is_lost_has_a_deadline_too(dsn: str) -> None:
    """Where one connection leads nowhere, and the server is there, its thread is not kept for ever."""
    async with Proxy(dsn) as proxy:
        database = sync_engine(proxy.dsn, max_size=1, command_timeout=0.2)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)

            def ask(session: Session) -> None:
                session.execute(ONE)
                proxy.forget()
                session.execute(ONE)

            async with asyncio.timeout(30):
                with pytest.raises(Unreachable):
                    await opened.run(ask)
            assert opened.stats.killed == 1
            assert await opened.run(one) == 1


async def test_connections_that_the_server_has_ended_are_replaced(dsn: str) -> None:
    """All backends killed between two requests: none of the following fails."""
    database = sync_engine(dsn, max_size=SIZE, min_size=SIZE, options=named("sync victim"))
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        for _ in range(3):
            victims = await backends(dsn, "sync victim")
            assert victims
            await kill(dsn, victims)
            assert await asyncio.gather(*[opened.run(one) for _ in range(20)]) == [1] * 20


async def test_a_transaction_whose_backend_is_ended_says_so(dsn: str) -> None:
    """The statement that meets it is refused; after a rollback the session goes on, on another connection."""
    database = sync_engine(dsn, max_size=1, acquire_timeout=20)
    loop = asyncio.get_running_loop()

    def transact(session: Session) -> object:
        pid = one(session, BACKEND)
        asyncio.run_coroutine_threadsafe(kill(dsn, [pid]), loop).result()
        with pytest.raises(Unreachable):
            session.execute(ONE)
        session.rollback()
        return one(session, BACKEND) != pid

    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        assert await opened.run(transact) is True
        assert opened.stats.in_use == 0
        assert await opened.run(one) == 1


async def test_a_connection_that_was_idle_for_long_is_checked_before_use(dsn: str) -> None:
    """One that leads nowhere is replaced, without an error; one that was used just now is not asked."""
    async with Proxy(dsn) as proxy:
        database = sync_engine(proxy.dsn, max_size=1, check_after=0.05, release_timeout=0.5)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            before = await opened.run(one, BACKEND)
            assert await opened.run(one, BACKEND) == before
            proxy.forget()
            await asyncio.sleep(0.1)
            assert await opened.run(one, BACKEND) != before
            assert opened.stats.in_use == 0


async def test_a_connection_that_cannot_be_given_back_in_time_is_ended_and_counted(dsn: str) -> None:
    """A rollback that gets no answer does not hold its request up for longer than `release_timeout`."""
    async with Proxy(dsn) as proxy:
        database = sync_engine(proxy.dsn, max_size=1, release_timeout=0.2)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)

            def use(session: Session) -> None:
                session.execute(ONE)
                proxy.forget()
                raise LookupError

            async with asyncio.timeout(20):
                with pytest.raises(LookupError):
                    await opened.run(use)
                assert opened.stats.killed == 1
                assert await opened.run(one) == 1


async def test_use_after_the_close_is_refused_in_words(dsn: str) -> None:
    """What was kept of an app that is closed says so, in its event loop and in a thread."""
    database = sync_engine(dsn, max_size=1)
    async with running(also=[database, database.pool]) as scope:
        opened, engine = await scope.get(database.pool), await scope.get(database)
    uses: list[Callable[[], object]] = [engine.connect]
    for use in uses:
        with pytest.raises(AlreadyClosed, match="pool `sync_engine` was used after its app had closed it"):
            await asyncio.to_thread(use)
    with pytest.raises(AlreadyClosed, match="pool `sync_engine` was used after its app had closed it"):
        await opened.run(one)


async def test_a_server_that_is_not_there_fails_the_start(dsn: str) -> None:
    """The app does not start, and says why, be it away or unwilling."""
    for address in ("postgresql+psycopg://x@127.0.0.1:1/y", dsn.replace("/postgres?", "/missing?")):
        with pytest.raises(StartFailed) as failed:
            async with running(also=[sync_engine(address)]):
                pass
        assert isinstance(failed.value.__cause__, Unreachable)


async def test_an_error_of_the_server_is_no_absence(dsn: str) -> None:
    """A mistake in SQL is SQLAlchemy's error, and the session can be used after a rollback."""
    database = sync_engine(dsn, max_size=1)

    def mistaken(session: Session) -> object:
        with pytest.raises(DBAPIError, match="does not exist"):
            session.execute(text("SELECT * FROM nowhere"))
        session.rollback()
        return one(session)

    async with running(also=[database.pool]) as scope:
        assert await (await scope.get(database.pool)).run(mistaken) == 1


async def test_a_thread_that_waits_for_too_long_is_refused(dsn: str) -> None:
    """A thread that borrows from the engine itself waits for `acquire_timeout` and no longer."""
    database = sync_engine(dsn, max_size=1, acquire_timeout=0.05)
    async with running(also=[database, database.pool]) as scope:
        engine = await scope.get(database)
        connection = await asyncio.to_thread(engine.connect)
        with pytest.raises(PoolExhausted):
            await asyncio.to_thread(engine.connect)
        await asyncio.to_thread(connection.close)


async def test_a_commit_whose_answer_is_lost_has_a_deadline_too(dsn: str) -> None:
    """The client is told that it is not known whether it was done, instead of waiting for ever."""
    async with Proxy(dsn) as proxy:
        database = sync_engine(proxy.dsn, max_size=1, command_timeout=0.2)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)

            def write(session: Session) -> None:
                session.execute(ONE)
                proxy.forget()

            async with asyncio.timeout(30):
                with pytest.raises(Unreachable):
                    await opened.run(write)
            assert opened.stats.in_use == 0
            assert await opened.run(one) == 1
