"""An async SQLAlchemy engine when things go wrong: what is refused, what is said of whom, how it recovers."""

import asyncio
import gc
import logging
import re
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tenure import lifespan, running
from tenure.errors import AlreadyClosed, OtherLoop, StartFailed
from tenure.pools.errors import NestedBorrow, PoolExhausted, Unreachable
from tenure.pools.sqlalchemy import AsyncEnginePool, engine
from tests.pools.apps import SIZE, served
from tests.pools.proxy import Proxy
from tests.pools.silences import answered, outlive_silence
from tests.pools.storms import storm
from tests.pools.tables import BACKEND, backends, kill
from tests.waiting import until

Sessions = async_sessionmaker[AsyncSession]
ONE = text("SELECT 1")
GIVEN_UP = 1000
"""Seconds that none of these tests waits: what is bounded by less is not bounded by this."""


def named(name: str) -> dict[str, object]:
    """Let an engine's connections be known by name at the server."""
    return {"connect_args": {"server_settings": {"application_name": name}}}


async def one(sessions: Sessions, query: str = "SELECT 1") -> object:
    """Ask for one value, in a session of its own."""
    async with sessions() as session:
        return await session.scalar(text(query))


async def test_a_pool_that_is_exhausted_is_said_with_who_holds_it(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client has a 503 that tells when to come again; the log has the holders' routes and lines."""
    database = engine(dsn, max_size=2, acquire_timeout=0.3, name="database")
    app = FastAPI(lifespan=lifespan)
    go_on = asyncio.Event()

    @app.get("/reports/{month}")
    async def report(month: int, session: Annotated[AsyncSession, Depends(database.session)]) -> int:
        await session.execute(ONE)
        await go_on.wait()
        return month

    async with served(app, database.pool) as (client, opened):
        held = [asyncio.create_task(client.get(f"/reports/{month}")) for month in range(2)]
        await until(lambda: opened.stats.in_use == 2)
        refused = await client.get("/reports/3")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert opened.stats.refused == 1
        go_on.set()
        assert [(await answer).status_code for answer in held] == [200, 200]
        assert (await client.get("/reports/4")).json() == 4
    said = next(record.message for record in caplog.records if "pool-exhausted" in record.message)
    holder = r"out for [\d.]+ s: GET /reports/\{month\}, borrowed at tests/pools/test_sqlalchemy_faults.py:\d+"
    assert len(re.findall(holder, said)) == 2


async def test_five_requests_that_each_want_a_second_connection_do_not_deadlock(dsn: str) -> None:
    """One is refused at once, with 503; the others get it, and nothing is left out."""
    database = engine(dsn, max_size=SIZE, acquire_timeout=GIVEN_UP)
    app = FastAPI(lifespan=lifespan)
    all_hold = asyncio.Barrier(SIZE)

    @app.get("/")
    async def nested(
        session: Annotated[AsyncSession, Depends(database.session)],
        sessions: Annotated[Sessions, Depends(database.sessions)],
    ) -> bool:
        first = await session.scalar(text(BACKEND))
        await all_hold.wait()
        return await one(sessions, BACKEND) != first

    async with served(app, database.pool) as (client, opened), asyncio.timeout(30):
        answers = await asyncio.gather(*[client.get("/") for _ in range(SIZE)])
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 503]
        assert opened.stats.in_use == 0
        assert opened.stats.refused == 1


async def test_what_holds_a_connection_and_asks_for_another_is_named(dsn: str) -> None:
    """The refusal names all who hold one."""
    database = engine(dsn, max_size=1, acquire_timeout=GIVEN_UP)
    async with running(also=[database.sessions]) as scope:
        sessions = await scope.get(database.sessions)
        async with sessions() as session:
            await session.execute(ONE)
            with pytest.raises(NestedBorrow) as refused:
                await one(sessions)
            assert await session.scalar(ONE) == 1
        assert "borrowed at tests/pools/test_sqlalchemy_faults.py:" in refused.value.path[0]


@pytest.mark.parametrize("by", ["task", "scope"])
async def test_a_storm_of_cancellations_leaves_nothing_out(dsn: str, by: str) -> None:
    """Of 1,500 requests cancelled at any point, none keeps a connection or costs one, and the next 20 are answered."""
    name = f"storm by {by}"
    database = engine(dsn, max_size=SIZE, min_size=SIZE, options=named(name))
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def query(session: Annotated[AsyncSession, Depends(database.session)]) -> int:
        await session.execute(text("SELECT pg_sleep(0.002)"))
        async with session.begin_nested():
            await session.execute(ONE)
        return 1

    async with served(app, database.pool) as (client, opened):
        before = await backends(dsn, name)

        async def request() -> int:
            return (await client.get("/")).status_code

        assert await storm(request, by, 30) > 0
        await until(lambda: opened.stats.in_use == 0)
        assert [await request() for _ in range(20)] == [200] * 20
        assert opened.stats.killed == 0
        assert await backends(dsn, name) == before


async def test_a_connection_that_is_out_for_long_is_reported_once(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names pool, request and the lines that led to the borrow; what is left at the close is ended."""
    database = engine(dsn, leak_after=0.1, release_timeout=0.2, name="database", options=named("leak"))
    app = FastAPI(lifespan=lifespan)
    kept = []

    async def forgetful(sessions: Sessions) -> None:
        kept.append(sessions())
        await kept[0].execute(ONE)

    @app.get("/leak")
    async def leak(sessions: Annotated[Sessions, Depends(database.sessions)]) -> None:
        await forgetful(sessions)

    caplog.set_level(logging.WARNING, "tenure")
    async with served(app, database.pool) as (client, opened):
        await client.get("/leak")
        await until(lambda: opened.stats.leaked == 1)
        assert opened.stats.in_use == 1
    said = [record.message for record in caplog.records if " is out for " in record.message]
    assert len(said) == 2  # when it was out for too long, and at the close
    for each in said:
        assert "a connection of pool database is out for" in each
        assert re.search(r"faults.py:\d+ in leak\n  tests/pools/test_sqlalchemy_faults.py:\d+ in forgetful$", each)
    assert await backends(dsn, "leak") == set()
    with pytest.raises(Unreachable):
        await kept[0].execute(ONE)
    await kept[0].close()


async def test_a_silent_server_is_noticed_and_everyone_refused_until_it_speaks(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for an answer is ended in seconds, others are refused at once, and what follows is answered again."""
    async with Proxy(dsn) as proxy:
        database = engine(
            proxy.dsn,
            max_size=SIZE,
            command_timeout=GIVEN_UP,
            acquire_timeout=GIVEN_UP,
            release_timeout=1,
            name="database",
        )
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            await asyncio.gather(*[one(opened.sessions, "SELECT pg_sleep(0.01)") for _ in range(SIZE)])
            for _ in range(2):
                heard = await outlive_silence(proxy, opened, lambda: one(opened.sessions), 1)
                assert {type(each) for each in heard} == {Unreachable}
    said = [record.message for record in caplog.records]
    assert said.count("the server of pool database answers again") == 2


async def test_a_statement_has_a_deadline(dsn: str) -> None:
    """What takes longer than `command_timeout` is cancelled at the server, and its connection serves others."""
    database = engine(dsn, max_size=1, command_timeout=0.2, options=named("late"))
    async with running(also=[database.sessions]) as scope:
        sessions = await scope.get(database.sessions)
        before = await one(sessions, BACKEND)
        for _ in range(2):
            with pytest.raises(Unreachable):
                await one(sessions, "SELECT pg_sleep(50)")
            assert await one(sessions, BACKEND) == before


async def test_connections_that_the_server_has_ended_are_replaced(dsn: str) -> None:
    """All backends killed between two requests: none of the following fails."""
    database = engine(dsn, max_size=SIZE, min_size=SIZE, options=named("victim"))
    async with running(also=[database.sessions]) as scope:
        sessions = await scope.get(database.sessions)
        for _ in range(3):
            victims = await backends(dsn, "victim")
            assert victims
            await kill(dsn, victims)
            assert await asyncio.gather(*[one(sessions) for _ in range(20)]) == [1] * 20


async def test_a_connection_that_is_ended_costs_no_other(dsn: str) -> None:
    """When the server ends one connection in the middle of a statement, the others are kept."""
    database = engine(dsn, max_size=SIZE, min_size=SIZE, options=named("spared"))
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        before = await backends(dsn, "spared")
        async with opened.sessions() as session:
            victim = await session.scalar(text(BACKEND))
            await kill(dsn, [victim])
            with pytest.raises(Unreachable):
                await session.execute(ONE)
        await asyncio.gather(*[one(opened.sessions, "SELECT pg_sleep(0.1)") for _ in range(SIZE)])
        assert before - {victim} < await backends(dsn, "spared")


async def test_after_a_silence_what_was_idle_meanwhile_is_asked_before_use(dsn: str) -> None:
    """Connections that the silence has cut off are replaced when the server is back, and nobody hangs on them."""
    async with Proxy(dsn) as proxy:
        database = engine(proxy.dsn, max_size=2, command_timeout=GIVEN_UP, check_after=GIVEN_UP)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            await asyncio.gather(*[one(opened.sessions, "SELECT pg_sleep(0.1)") for _ in range(2)])
            proxy.fall_silent()
            with pytest.raises(Unreachable):
                await one(opened.sessions)
            proxy.forget()
            assert await answered(lambda: one(opened.sessions)) == 1
            async with asyncio.timeout(30):
                assert await asyncio.gather(*[one(opened.sessions) for _ in range(4)]) == [1] * 4


@pytest.mark.parametrize("borrowers", [0, 3])
async def test_a_silent_server_does_not_hold_up_the_close(dsn: str, borrowers: int) -> None:
    """Connections that are idle or held are ended, who waits on one or opens one is told, and the app ends in time."""

    async def driver_of(session: AsyncSession) -> object:
        return (await (await session.connection()).get_raw_connection()).driver_connection

    async with Proxy(dsn) as proxy, asyncio.timeout(30):
        database = engine(proxy.dsn, max_size=4, acquire_timeout=GIVEN_UP, release_timeout=0.2)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            held = opened.sessions()
            drivers = [await driver_of(held)]
            async with opened.sessions() as one_idle, opened.sessions() as other_idle:
                drivers += [await driver_of(one_idle), await driver_of(other_idle)]
            proxy.fall_silent()
            waiting = [asyncio.create_task(one(opened.sessions)) for _ in range(borrowers)]
            await until(lambda: opened.stats.in_use == 1 + borrowers)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unreachable] * borrowers
        assert [driver.is_closed() for driver in drivers] == [True] * 3
        await held.close()


async def test_a_transaction_whose_backend_is_ended_says_so(dsn: str) -> None:
    """The statement that meets it is refused as one that may be tried again, and the connection is not lost."""
    database = engine(dsn, max_size=1)
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)

        async def transact() -> None:
            async with opened.sessions.begin() as session:
                await kill(dsn, [await session.scalar(text(BACKEND))])
                await session.execute(ONE)

        with pytest.raises(Unreachable):
            await transact()
        assert opened.stats.in_use == 0
        assert await one(opened.sessions) == 1


async def test_a_connection_that_was_idle_for_long_is_checked_before_use(dsn: str) -> None:
    """One that leads nowhere is replaced, without an error; one that was used just now is not asked."""
    async with Proxy(dsn) as proxy:
        database = engine(proxy.dsn, max_size=1, check_after=0.05)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            before = await one(opened.sessions, BACKEND)
            assert await one(opened.sessions, BACKEND) == before
            proxy.forget()
            await asyncio.sleep(0.1)
            assert await one(opened.sessions, BACKEND) != before
            assert opened.stats.in_use == 0


async def test_a_connection_that_cannot_be_given_back_in_time_is_ended_and_counted(dsn: str) -> None:
    """A rollback that gets no answer does not hold its request up for longer than `release_timeout`."""
    async with Proxy(dsn) as proxy:
        database = engine(proxy.dsn, max_size=1, release_timeout=0.2)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            async with asyncio.timeout(20):
                async with opened.sessions() as session:
                    await session.execute(ONE)
                    proxy.forget()
                assert opened.stats.killed == 1
                assert await one(opened.sessions) == 1


async def test_a_rollback_in_the_middle_does_not_end_the_connection(dsn: str) -> None:
    """What is done on one connection after its rollback has its time, however short that of the rollback is."""
    database = engine(dsn, max_size=1, release_timeout=0.1)
    async with running(also=[database, database.pool]) as scope:
        async with (await scope.get(database)).connect() as connection:
            for _ in range(2):
                await connection.execute(text("SELECT pg_sleep(0.3)"))
                await connection.rollback()
        assert (await scope.get(database.pool)).stats.killed == 0


async def test_use_after_the_close_or_in_another_loop_is_refused_in_words(dsn: str) -> None:
    """What was kept of an app that is closed says so; so does what is used in a thread's own loop."""
    database = engine(dsn, max_size=1)
    async with running(also=[database.sessions]) as scope:
        sessions = await scope.get(database.sessions)
        with pytest.raises(OtherLoop, match="pool `engine` was started in one event loop and used in another"):
            await asyncio.to_thread(asyncio.run, one(sessions))
    with pytest.raises(AlreadyClosed, match="pool `engine` was used after its app had closed it"):
        await one(sessions)


async def test_who_waits_while_the_app_closes_is_refused(dsn: str) -> None:
    """A place that becomes free after the close gives nobody a new connection."""
    database = engine(dsn, max_size=1, acquire_timeout=GIVEN_UP, release_timeout=0.2, options=named("late"))
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        held = opened.sessions()
        await held.execute(ONE)
        waiting = asyncio.create_task(one(opened.sessions))
        await until(lambda: opened.stats.waiting == 1)
    await held.close()
    async with asyncio.timeout(20):
        with pytest.raises(AlreadyClosed):
            await waiting
    assert await backends(dsn, "late") == set()


async def test_a_server_that_is_not_there_fails_the_start(dsn: str) -> None:
    """The app does not start, and says why, be it away or unwilling."""
    for address in ("postgresql+asyncpg://x@127.0.0.1:1/y", dsn.replace("/postgres?", "/missing?")):
        with pytest.raises(StartFailed) as failed:
            async with running(also=[engine(address)]):
                pass
        assert isinstance(failed.value.__cause__, Unreachable)


async def test_a_session_that_is_forgotten_gives_its_place_back(dsn: str, recwarn: pytest.WarningsRecorder) -> None:
    """What is collected unclosed is ended, and its place is free again."""
    database = engine(dsn, max_size=1, acquire_timeout=10)
    async with running(also=[database.pool]) as scope:
        opened: AsyncEnginePool = await scope.get(database.pool)
        session = opened.sessions()
        await session.execute(ONE)
        del session
        gc.collect()
        assert await one(opened.sessions) == 1
        assert opened.stats.in_use == 0
    assert [type(warning.message).__name__ for warning in recwarn] == ["SAWarning"]


async def test_a_connection_that_the_program_detaches_gives_its_place_back(dsn: str) -> None:
    """SQLAlchemy's `detach` takes a connection out of the pool, which is one of its size still."""
    database = engine(dsn, max_size=1, acquire_timeout=10)
    async with running(also=[database, database.pool]) as scope:
        opened = await scope.get(database.pool)
        async with (await scope.get(database)).connect() as connection:
            raw = await connection.get_raw_connection()
            raw.detach()
            assert opened.stats.in_use == 0
            assert await one(opened.sessions) == 1


async def test_an_error_of_the_server_is_no_absence(dsn: str) -> None:
    """A mistake in SQL is SQLAlchemy's error, and the session can be used after a rollback."""
    database = engine(dsn, max_size=1)
    async with running(also=[database.sessions]) as scope, (await scope.get(database.sessions))() as session:
        with pytest.raises(DBAPIError, match="does not exist"):
            await session.execute(text("SELECT * FROM nowhere"))
        await session.rollback()
        assert await session.scalar(ONE) == 1


async def test_who_waits_for_too_long_is_refused(dsn: str) -> None:
    """A second session waits for `acquire_timeout` and no longer."""
    database = engine(dsn, max_size=1, acquire_timeout=0.05)
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        async with opened.sessions() as session:
            await session.execute(ONE)
            with pytest.raises(PoolExhausted):
                await asyncio.create_task(one(opened.sessions))
