"""What borrows from an async SQLAlchemy engine: when a connection is taken and given back, and what is committed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from traceback import format_exception
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import URL, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from tenure import lifespan, override, running
from tenure.errors import AlreadyClosed, DeclarationError, StartFailed
from tenure.pools.errors import BudgetExceeded, ConcurrentUse, TransactionFailed, Unreachable
from tenure.pools.sqlalchemy import AsyncEnginePool, EngineResource, PoolSettings, engine, sync_engine
from tests.pools.apps import SIZE, served
from tests.pools.forgiven import told_by
from tests.pools.proxy import Proxy
from tests.pools.silences import answered
from tests.pools.tables import BACKEND, TABLE, Seat, asked
from tests.waiting import until

Sessions = async_sessionmaker[AsyncSession]
ONE = text("SELECT 1")


@pytest.fixture
async def table(dsn: str) -> None:
    """Make an empty table."""
    for statement in TABLE.strip().split(";"):
        await asked(dsn, statement)


async def seats(dsn: str) -> list[object]:
    """Give what is committed."""
    return await asked(dsn, "SELECT id FROM seats ORDER BY id")


def writing(database: EngineResource) -> FastAPI:
    """Make an app that writes by way of two dependencies that share the request's session."""
    app = FastAPI(lifespan=lifespan)

    async def count(session: Annotated[AsyncSession, Depends(database.session)]) -> AsyncSession:
        return session

    @app.post("/{row}/{seat}", status_code=201)
    async def write(
        row: int,
        seat: int,
        session: Annotated[AsyncSession, Depends(database.session)],
        other: Annotated[AsyncSession, Depends(count)],
    ) -> dict[str, int]:
        assert other is session
        written = Seat(id=row, seat=seat)
        session.add(written)
        await session.flush()
        if row > 100:
            raise HTTPException(404, "There is no such row")
        return {"seat": written.seat}

    @app.get("/{row}")
    async def read(row: int, session: Annotated[AsyncSession, Depends(database.session)]) -> int | None:
        return (await session.scalars(select(Seat.seat).where(Seat.id == row))).one_or_none()

    return app


@pytest.mark.usefixtures("table")
async def test_what_a_handler_writes_is_there_before_its_answer(dsn: str) -> None:
    """The client that has its 201 finds the row, each time."""
    database = engine(dsn, max_size=SIZE)
    async with served(writing(database), database.pool) as (client, opened):

        async def write_and_read(row: int) -> bool:
            assert (await client.post(f"/{row}/{row}")).status_code == 201
            return row in await seats(dsn)

        assert all(await asyncio.gather(*[write_and_read(row) for row in range(1, 30)]))
        assert (await client.get("/7")).json() == 7
        assert opened.stats.in_use == 0


@pytest.mark.usefixtures("table")
async def test_a_commit_that_fails_is_an_error_that_the_client_sees(dsn: str) -> None:
    """No client is told 201 where the database refused the commit; a handler of the app's may say 409."""
    database = engine(dsn, max_size=SIZE)
    app = writing(database)
    async with served(app, database.pool) as (client, _):
        assert (await client.post("/1/7")).status_code == 201
        assert {(await client.post(f"/{row}/7")).status_code for row in range(2, 22)} == {500}

        @app.exception_handler(IntegrityError)
        async def taken(*_: object) -> None:
            raise HTTPException(409)

        assert await seats(dsn) == [1]
        assert (await client.get("/1")).json() == 7


@pytest.mark.usefixtures("table")
async def test_an_error_rolls_back(dsn: str) -> None:
    """What was written before an HTTPException, or before an error of the database's, is not there."""
    database = engine(dsn, max_size=SIZE)
    async with served(writing(database), database.pool) as (client, opened):
        assert (await client.post("/101/1")).status_code == 404
        assert (await client.post("/1/-1")).status_code == 500
        assert await seats(dsn) == []
        assert opened.stats.in_use == 0


@pytest.mark.usefixtures("table")
async def test_errors_of_the_program_pass_unchanged(dsn: str) -> None:
    """What the database refuses is raised as SQLAlchemy raises it, and its connection serves others."""
    database = engine(dsn, max_size=1)
    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        pids = set()
        for _ in range(3):
            async with opened.sessions() as session:
                pids.add(await session.scalar(text("SELECT pg_backend_pid()")))
                session.add(Seat(id=1, seat=-1))
                with pytest.raises(IntegrityError):
                    await session.flush()
        assert len(pids) == 1


async def refused(session: AsyncSession) -> None:
    """Be refused by the database, and think nothing of it."""
    with pytest.raises(IntegrityError):
        await session.execute(text("INSERT INTO seats VALUES (1, -1)"))


async def given_up(session: AsyncSession) -> None:
    """Wait for an answer that takes too long, and think nothing of it."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.execute(text("SELECT pg_sleep(50)"))


def forgiving(database: EngineResource, fail: Callable[[AsyncSession], Awaitable[None]]) -> FastAPI:
    """Make an app that goes on where a statement has failed, in each way to have a transaction."""
    app = FastAPI(lifespan=lifespan)

    async def write(session: AsyncSession, *, savepoint: bool) -> None:
        session.add(Seat(id=7, seat=7))
        await session.flush()
        if savepoint:
            with suppress(LookupError):
                async with session.begin_nested():
                    await fail(session)
                    raise LookupError
        else:
            await fail(session)

    @app.post("/session", status_code=201)
    async def declared(session: Annotated[AsyncSession, Depends(database.session)], *, savepoint: bool = False) -> None:
        await write(session, savepoint=savepoint)

    @app.post("/begin", status_code=201)
    async def begin(sessions: Annotated[Sessions, Depends(database.sessions)], *, savepoint: bool = False) -> None:
        async with sessions.begin() as session:
            await write(session, savepoint=savepoint)

    @app.post("/rolled-back", status_code=201)
    async def rolled_back(
        session: Annotated[AsyncSession, Depends(database.session)], *, savepoint: bool = False
    ) -> None:
        await fail(session)
        await session.rollback()
        await write(session, savepoint=savepoint)

    return app


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("fail", [refused, given_up])
@pytest.mark.parametrize("way", ["session", "begin", "rolled-back"])
async def test_a_transaction_in_which_a_statement_has_failed_is_no_success(
    dsn: str, caplog: pytest.LogCaptureFixture, way: str, fail: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    """Where its error was caught, the commit raises, as nothing would be committed; a savepoint bounds the failure."""
    database = engine(dsn, max_size=1)
    app = forgiving(database, fail)
    said = told_by(app)

    async with served(app, database.pool) as (client, opened):
        before = await lent(opened)
        assert (await client.post(f"/{way}")).status_code == 500
        assert await seats(dsn) == []
        assert (await client.post(f"/{way}?savepoint=true")).status_code == 201
        assert await seats(dsn) == [7]
        assert await lent(opened) == before
        assert (opened.stats.in_use, opened.stats.open, opened.stats.killed) == (0, 1, 0)
    (error,) = said
    assert error.code == "transaction-failed"
    first = fail.__code__.co_firstlineno  # type: ignore[attr-defined]
    (failed_at,) = (int(where.rpartition(":")[2]) for where in error.path)
    assert first < failed_at < first + 6
    assert [record for record in caplog.records if record.name == "tenure" and record.levelname != "INFO"] == []


async def lent(pool: AsyncEnginePool) -> object:
    """Tell which connection the pool lends."""
    async with pool.sessions() as session:
        return await session.scalar(text(BACKEND))


@pytest.mark.usefixtures("table")
async def test_a_session_goes_on_after_a_transaction_that_has_failed(dsn: str) -> None:
    """What it is told at the commit can be rolled back, and the next transaction is committed; the engine's own too."""
    database = engine(dsn, max_size=1)
    async with running(also=[database, database.sessions]) as scope:
        async with (await scope.get(database.sessions))() as session:
            await refused(session)
            with pytest.raises(TransactionFailed):
                await session.commit()
            await session.rollback()
            session.add(Seat(id=1, seat=1))
            await session.commit()
        assert await seats(dsn) == [1]

        async with (await scope.get(database)).connect() as connection:
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT 1 / 0"))
            with pytest.raises(TransactionFailed):
                await connection.commit()
            await connection.rollback()
            assert (await connection.execute(ONE)).scalar_one() == 1
            await connection.commit()


@pytest.mark.usefixtures("table")
async def test_a_server_that_is_silent_at_the_commit_is_unreachable_where_a_statement_has_failed(dsn: str) -> None:
    """Where nobody can tell whether the transaction has failed, that is said, and the connection is not lost."""
    async with Proxy(dsn) as proxy:
        database = engine(proxy.dsn, max_size=1, release_timeout=1)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)

            async def write() -> None:
                async with opened.sessions.begin() as session:
                    await refused(session)
                    proxy.fall_silent()

            with pytest.raises(Unreachable):
                await write()
            proxy.speak()
            await until(lambda: opened.stats.in_use == 0)
            assert await answered(lambda: lent(opened))


@pytest.mark.usefixtures("table")
async def test_a_commit_that_is_cancelled_where_a_statement_has_failed_is_rolled_back(dsn: str) -> None:
    """The connection serves the next session as any other: what that does not commit is not there."""
    async with Proxy(dsn) as proxy:
        database = engine(proxy.dsn, max_size=1)
        async with running(also=[database.pool]) as scope:
            opened = await scope.get(database.pool)
            before = await lent(opened)

            async def write() -> None:
                async with opened.sessions() as session:
                    await refused(session)
                    proxy.fall_silent()
                    await session.commit()

            writing = asyncio.create_task(write())
            await until(lambda: proxy.kept)
            writing.cancel()
            proxy.speak()
            with pytest.raises(asyncio.CancelledError):
                await writing
            async with opened.sessions() as session:
                session.add(Seat(id=1, seat=1))
                await session.flush()
                assert await session.scalar(text(BACKEND)) == before
        assert await seats(dsn) == []


async def test_a_session_takes_its_connection_at_the_first_statement(dsn: str) -> None:
    """A handler that asks nothing of the database holds nothing of it; an object lives on after the commit."""
    database = engine(dsn, max_size=1)
    app = FastAPI(lifespan=lifespan)

    @app.get("/{queries}")
    async def held(
        queries: int,
        session: Annotated[AsyncSession, Depends(database.session)],
        pool: Annotated[AsyncEnginePool, Depends(database.pool)],
    ) -> list[int]:
        before = pool.stats.in_use
        for _ in range(queries):
            await session.execute(ONE)
        return [before, pool.stats.in_use]

    async with served(app, database.pool) as (client, opened):
        assert (await client.get("/0")).json() == [0, 0]
        assert (await client.get("/2")).json() == [0, 1]
        assert opened.stats.in_use == 0


async def test_streams_tasks_and_sockets_hold_nothing_while_they_wait(dsn: str) -> None:
    """With 200 streams, 20 tasks and 50 handlers open on 5 connections, all are idle and a query is answered."""
    database = engine(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    go_on = asyncio.Event()
    waiting: list[str] = []

    async def use(sessions: Sessions, who: str) -> int:
        async with sessions() as session:
            number = await session.scalar(ONE)
        waiting.append(who)
        await go_on.wait()
        async with sessions() as session:
            return number + await session.scalar(ONE)

    @app.get("/stream")
    async def stream(sessions: Annotated[Sessions, Depends(database.sessions)]) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield str(await use(sessions, "stream"))

        return StreamingResponse(chunks())

    @app.get("/task")
    async def task(sessions: Annotated[Sessions, Depends(database.sessions)], background: BackgroundTasks) -> None:
        background.add_task(use, sessions, "task")

    @app.get("/handler")
    async def handler(sessions: Annotated[Sessions, Depends(database.sessions)]) -> int:
        return await use(sessions, "handler")

    @app.get("/probe")
    async def probe(session: Annotated[AsyncSession, Depends(database.session)]) -> int:
        return await session.scalar(text("SELECT 7"))

    async with served(app, database.pool) as (client, opened):
        paths = ["/stream"] * 200 + ["/task"] * 20 + ["/handler"] * 50
        requests = [asyncio.create_task(client.get(path)) for path in paths]
        await until(lambda: len(waiting) == len(paths))
        assert (await client.get("/probe")).json() == 7
        assert opened.stats.in_use == 0
        assert opened.stats.open == SIZE
        go_on.set()
        answers = await asyncio.gather(*requests)
        assert {answer.text for answer in answers} == {"2", "null"}


def test_a_websocket_opens_a_session_for_each_message(dsn: str) -> None:
    """Fifty sockets that wait for a message hold nothing of one connection."""
    database = engine(dsn, max_size=1)
    app = FastAPI(lifespan=lifespan)

    @app.websocket("/")
    async def echo(
        socket: WebSocket,
        sessions: Annotated[Sessions, Depends(database.sessions)],
        pool: Annotated[AsyncEnginePool, Depends(database.pool)],
    ) -> None:
        await socket.accept()
        async for word in socket.iter_text():
            async with sessions() as session:
                answer = await session.scalar(text("SELECT CAST(:word AS text)"), {"word": word})
            await socket.send_json([answer, pool.stats.in_use])

    with TestClient(app) as client, ExitStack() as stack:
        connected = [stack.enter_context(client.websocket_connect("/")) for _ in range(50)]
        for socket in (*connected, *connected):
            socket.send_text("word")
            assert socket.receive_json() == ["word", 0]


async def test_sessions_that_begin_commit_at_their_end(dsn: str, table: None) -> None:
    """`sessions.begin()` commits, `sessions()` alone does not."""
    database = engine(dsn, max_size=1)
    async with running(also=[database.sessions]) as scope:
        sessions = await scope.get(database.sessions)
        async with sessions.begin() as session:
            session.add(Seat(id=1, seat=1))
        async with sessions() as session:
            session.add(Seat(id=2, seat=2))
            await session.flush()
        assert await seats(dsn) == [1]


async def test_two_tasks_on_one_session_are_told_of_each_other(dsn: str) -> None:
    """`gather` on a session is refused with both lines and the cure; the request is rolled back and gives all back."""
    database = engine(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    said: list[ConcurrentUse] = []

    @app.get("/")
    async def gathers(session: Annotated[AsyncSession, Depends(database.session)]) -> None:
        await session.execute(ONE)
        await asyncio.gather(
            session.scalar(text("SELECT pg_sleep(0.2)")),
            session.scalar(ONE),
        )

    @app.get("/apart")
    async def apart(sessions: Annotated[Sessions, Depends(database.sessions)]) -> list[int]:
        async def ask() -> int:
            async with sessions() as session:
                return await session.scalar(text("SELECT pg_backend_pid() FROM pg_sleep(0.05)"))

        return await asyncio.gather(*[ask() for _ in range(2)])

    @app.exception_handler(ConcurrentUse)
    async def keep(request: object, error: ConcurrentUse) -> None:
        said.append(error)
        raise HTTPException(500)

    async with served(app, database.pool) as (client, opened):
        assert (await client.get("/")).status_code == 500
        assert (opened.stats.in_use, opened.stats.open) == (0, 1)
        assert len(set((await client.get("/apart")).json())) == 2
    assert [line.rpartition(":")[0] for line in said[0].path] == [
        "in use at tests/pools/test_sqlalchemy.py",
        "used at tests/pools/test_sqlalchemy.py",
    ]
    first, second = (int(line.rpartition(":")[2]) for line in said[0].path)
    assert second - first == 1
    assert "async with sessions() as session" in said[0].hint


async def test_a_session_is_over_when_its_handler_has_returned(dsn: str) -> None:
    """A stream that uses the handler's session is told to open its own, instead of taking a connection for ever."""
    database = engine(dsn, max_size=1)
    app = FastAPI(lifespan=lifespan)
    told: list[str] = []

    @app.get("/")
    async def stream(session: Annotated[AsyncSession, Depends(database.session)]) -> StreamingResponse:
        await session.execute(ONE)

        async def chunks() -> AsyncIterator[str]:
            try:
                await session.execute(ONE)
            except AlreadyClosed as error:
                told.append(error.hint)
            yield "."

        return StreamingResponse(chunks())

    async with served(app, database.pool) as (client, opened):
        assert (await client.get("/")).text == "."
        assert "async with sessions() as session" in told[0]
        assert opened.stats.in_use == 0


async def test_the_engine_itself_is_guarded_too(dsn: str) -> None:
    """What SQLAlchemy's own means borrow from the engine is counted and named as a session's is."""
    database = engine(dsn, max_size=1, name="database")
    app = FastAPI(lifespan=lifespan)

    go_on = asyncio.Event()

    @app.get("/")
    async def connects(engine: Annotated[AsyncEngine, Depends(database)]) -> int:
        async with engine.connect() as connection:
            await go_on.wait()
            return (await connection.execute(ONE)).scalar_one()

    async with served(app, database.pool) as (client, opened):
        answer = asyncio.create_task(client.get("/"))
        await until(lambda: opened.stats.in_use == 1)
        (holder,) = opened.holders()
        assert "GET /, borrowed at tests/pools/test_sqlalchemy.py:" in holder
        go_on.set()
        assert (await answer).json() == 1
        assert opened.stats.in_use == 0


@pytest.mark.parametrize("kind", [str, SecretStr, "url", "settings", "psycopg", 7])
async def test_what_an_address_may_be(dsn: str, kind: object) -> None:
    """A text, a secret, SQLAlchemy's URL, or settings; another driver's is refused at start."""
    host, _, port = dsn.partition("host=")[2].partition("&port=")
    url = URL.create(
        "postgresql+asyncpg", username="postgres", database="postgres", query={"host": host, "port": port or "5432"}
    )
    sources = {"url": url, "settings": PoolSettings(dsn=dsn, min_size=0), "psycopg": "postgresql+psycopg://x/y", 7: 7}
    source = sources[kind] if kind in sources else kind(dsn)  # type: ignore[index,operator]
    database = engine(lambda: source, max_size=1)
    if kind in {"psycopg", 7}:
        with pytest.raises(StartFailed) as failed:
            async with running(also=[database]):
                pass
        assert isinstance(failed.value.__cause__, DeclarationError)
        return
    async with running(also=[database.sessions]) as scope, (await scope.get(database.sessions))() as session:
        assert await session.scalar(ONE) == 1


@pytest.mark.parametrize("password", ["1@secret", "1@2:secret", "1@2/secret", "1@2?secret"])
@pytest.mark.parametrize("declare", [engine, sync_engine])
async def test_a_password_that_is_not_encoded_is_not_shown(declare: Callable[..., Any], password: str) -> None:
    """An `@` ends it for SQLAlchemy: the start says what to do, and nothing of what the rest is taken for."""
    address = f"postgresql://roster:{password}@127.0.0.1:1/roster"
    for source in (address, PoolSettings(dsn=address)):
        with pytest.raises(StartFailed) as raised:
            async with running(also=[declare(lambda source=source: source)]):
                pass
        assert isinstance(raised.value.__cause__, DeclarationError)
        assert "percent-encode `#`, `/`, `?`, `@` and `:` in a password" in str(raised.value)
        assert "secret" not in "".join(format_exception(raised.value))


@pytest.mark.parametrize("declare", [engine, sync_engine])
async def test_a_port_that_is_none_is_not_repeated(declare: Callable[..., Any]) -> None:
    """It may be the password, in an address that lacks a host."""
    database = declare("postgresql://roster:secret/roster")
    with pytest.raises(StartFailed) as raised:
        async with running(also=[database]):
            pass
    assert isinstance(raised.value.__cause__, DeclarationError)
    assert "secret" not in "".join(format_exception(raised.value))


async def test_workers_share_what_the_server_allows(dsn: str) -> None:
    """An engine has its part of `max_connections`; more workers than parts are refused at start."""
    database = engine(dsn, max_connections=9, workers=2, min_size=0)
    async with running(also=[database.pool]) as scope:
        assert (await scope.get(database.pool)).stats.size == 4
    with pytest.raises(StartFailed) as failed:
        async with running(also=[engine(dsn, max_connections=3, workers=4)]):
            pass
    assert isinstance(failed.value.__cause__, BudgetExceeded)


async def test_a_test_overrides_the_session(dsn: str) -> None:
    """With another value for `database.session`, no connection is made."""
    database = engine("postgresql+asyncpg://nowhere.invalid/none")
    app = writing(database)

    class Fake:
        async def scalars(self, statement: object) -> "Fake":
            return self

        def one_or_none(self) -> int:
            return 42

    with override(app, {database.session: Fake}), TestClient(app) as client:
        assert client.get("/1").json() == 42
