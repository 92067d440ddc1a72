"""What `def` handlers borrow from a sync SQLAlchemy engine: who waits where, what is committed, what is refused."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from httpx import AsyncClient
from pydantic import BaseModel
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tenure import lifespan, running
from tenure.errors import AlreadyClosed
from tenure.pools.errors import BlockingCall
from tenure.pools.sqlalchemy import SyncEnginePool, SyncEngineResource, sync_engine
from tests.pools.apps import SIZE, served
from tests.pools.forgiven import told_by
from tests.pools.tables import BACKEND, TABLE, Seat, asked
from tests.waiting import until

ONE = text("SELECT 1")
SLOW = text("SELECT 1 FROM pg_sleep(0.02)")


class Out(BaseModel):
    """An answer, which FastAPI validates in a thread where the handler is `def`."""

    n: int


@pytest.fixture
async def table(dsn: str) -> None:
    """Make an empty table."""
    for statement in TABLE.strip().split(";"):
        await asked(dsn, statement)


async def seats(dsn: str) -> list[object]:
    """Give what is committed."""
    return await asked(dsn, "SELECT id FROM seats ORDER BY id")


def query(session: Session) -> dict[str, int]:
    """Ask for something that takes a while."""
    return {"n": session.scalar(SLOW) or 0}


def crowded(database: SyncEngineResource) -> FastAPI:
    """Make an app with every way in which `def` code comes to a session."""
    app = FastAPI(lifespan=lifespan)
    Borrowed = Annotated[Session, Depends(database.session)]  # noqa: N806 (a type)

    def user(session: Borrowed) -> dict[str, int]:
        return query(session)

    def wrapped(session: Borrowed) -> Session:
        return session

    @app.get("/plain")
    def plain(session: Borrowed) -> dict[str, int]:
        return query(session)

    @app.get("/model", response_model=Out)
    def model(session: Borrowed) -> dict[str, int]:
        return query(session)

    @app.get("/twice")
    def twice(user: Annotated[dict[str, int], Depends(user)], session: Borrowed) -> dict[str, int]:
        return query(session)

    @app.get("/wrapped", response_model=Out)
    def by_another(session: Annotated[Session, Depends(wrapped)]) -> dict[str, int]:
        return query(session)

    @app.get("/inside", response_model=Out)
    async def inside(pool: Annotated[SyncEnginePool, Depends(database.pool)]) -> dict[str, int]:
        return await pool.run(query)

    @app.get("/ping")
    def ping() -> dict[str, int]:
        return {}

    return app


@pytest.mark.parametrize("requests", [100, 400])
@pytest.mark.parametrize("case", ["plain", "model", "twice", "wrapped", "inside"])
async def test_a_crowd_of_def_handlers_gets_its_answers(dsn: str, case: str, requests: int) -> None:
    """However many want one of 5 connections, none is refused, and a `def` route without a database is answered."""
    database = sync_engine(dsn, max_size=SIZE, acquire_timeout=50)
    async with served(crowded(database), database.pool) as (client, opened):
        crowd = [asyncio.create_task(client.get(f"/{case}")) for _ in range(requests)]
        await until(lambda: opened.stats.waiting > requests // 2)
        for _ in range(5):  # each is answered while most of the crowd waits
            assert (await client.get("/ping")).json() == {}
        assert opened.stats.waiting > 0
        answers = await asyncio.gather(*crowd)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.text for answer in answers} == {'{"n":1}'}
        assert opened.stats.in_use == 0
        assert opened.stats.open <= SIZE


async def test_no_more_threads_than_connections_are_in_handlers(dsn: str) -> None:
    """Who has no place in the pool has no thread either."""
    database = sync_engine(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    inside = 0
    most = 0
    lock = threading.Lock()

    @app.get("/")
    def handler(session: Annotated[Session, Depends(database.session)]) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        session.execute(SLOW)
        with lock:
            inside -= 1

    async with served(app, database.pool) as (client, _):
        await asyncio.gather(*[client.get("/") for _ in range(60)])
    assert most == SIZE


def writing(database: SyncEngineResource) -> FastAPI:
    """Make an app that writes by way of two dependencies that share the request's session."""
    app = FastAPI(lifespan=lifespan)

    def count(session: Annotated[Session, Depends(database.session)]) -> Session:
        return session

    @app.post("/{row}/{seat}", status_code=201)
    def write(
        row: int,
        seat: int,
        session: Annotated[Session, Depends(database.session)],
        other: Annotated[Session, Depends(count)],
    ) -> dict[str, int]:
        assert other is session
        written = Seat(id=row, seat=seat)
        session.add(written)
        session.flush()
        if row > 100:
            raise HTTPException(404, "There is no such row")
        return {"seat": written.seat}

    @app.get("/{row}")
    def read(row: int, session: Annotated[Session, Depends(database.session)]) -> int | None:
        return session.scalars(select(Seat.seat).where(Seat.id == row)).one_or_none()

    return app


@pytest.mark.usefixtures("table")
async def test_what_a_handler_writes_is_there_before_its_answer(dsn: str) -> None:
    """The client that has its 201 finds the row, each time."""
    database = sync_engine(dsn, max_size=SIZE)
    async with served(writing(database), database.pool) as (client, _):

        async def write_and_read(row: int) -> bool:
            assert (await client.post(f"/{row}/{row}")).status_code == 201
            return row in await seats(dsn)

        assert all(await asyncio.gather(*[write_and_read(row) for row in range(1, 30)]))
        assert (await client.get("/7")).json() == 7


@pytest.mark.usefixtures("table")
async def test_a_commit_that_fails_is_an_error_that_the_client_sees(dsn: str) -> None:
    """No client is told 201 where the database refused the commit."""
    database = sync_engine(dsn, max_size=SIZE)
    async with served(writing(database), database.pool) as (client, opened):
        assert (await client.post("/1/7")).status_code == 201
        assert {(await client.post(f"/{row}/7")).status_code for row in range(2, 22)} == {500}
        assert await seats(dsn) == [1]
        assert opened.stats.in_use == 0


@pytest.mark.usefixtures("table")
async def test_an_error_rolls_back(dsn: str) -> None:
    """What was written before an HTTPException, or before an error of the database's, is not there."""
    database = sync_engine(dsn, max_size=1)
    async with served(writing(database), database.pool) as (client, opened):
        assert (await client.post("/101/1")).status_code == 404
        assert (await client.post("/1/-1")).status_code == 500
        assert await seats(dsn) == []
        assert (opened.stats.in_use, opened.stats.open) == (0, 1)


@pytest.mark.usefixtures("table")
async def test_errors_of_the_program_pass_unchanged(dsn: str) -> None:
    """What the database refuses is raised as SQLAlchemy raises it, and its connection serves others."""
    database = sync_engine(dsn, max_size=1)

    def refused(session: Session) -> None:
        session.add(Seat(id=1, seat=-1))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()

    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        before = await opened.run(lambda session: session.scalar(text("SELECT pg_backend_pid()")))
        await opened.run(refused)
        assert await opened.run(lambda session: session.scalar(text("SELECT pg_backend_pid()"))) == before


def refused(session: Session) -> None:
    """Be refused by the database, and think nothing of it."""
    with pytest.raises(IntegrityError):
        session.execute(text("INSERT INTO seats VALUES (1, -1)"))


def forgiving(database: SyncEngineResource) -> FastAPI:
    """Make an app that goes on where a statement has failed, in each way to have a transaction."""
    app = FastAPI(lifespan=lifespan)

    def write(session: Session, *, savepoint: bool) -> None:
        session.add(Seat(id=7, seat=7))
        session.flush()
        if savepoint:
            with suppress(LookupError), session.begin_nested():
                refused(session)
                raise LookupError
        else:
            refused(session)

    @app.post("/session", status_code=201)
    def declared(session: Annotated[Session, Depends(database.session)], *, savepoint: bool = False) -> None:
        write(session, savepoint=savepoint)

    @app.post("/run", status_code=201)
    async def run(pool: Annotated[SyncEnginePool, Depends(database.pool)], *, savepoint: bool = False) -> None:
        await pool.run(write, savepoint=savepoint)

    @app.post("/engine", status_code=201)
    def engine(engine: Annotated[Engine, Depends(database)], *, savepoint: bool = False) -> None:
        with Session(engine) as session, session.begin():
            write(session, savepoint=savepoint)

    @app.post("/rolled-back", status_code=201)
    def rolled_back(session: Annotated[Session, Depends(database.session)], *, savepoint: bool = False) -> None:
        refused(session)
        session.rollback()
        write(session, savepoint=savepoint)

    return app


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("way", ["session", "run", "engine", "rolled-back"])
async def test_a_transaction_in_which_a_statement_has_failed_is_no_success(
    dsn: str, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Where its error was caught, the commit raises, as nothing would be committed; a savepoint bounds the failure."""
    database = sync_engine(dsn, max_size=1)
    app = forgiving(database)
    said = told_by(app)

    async with served(app, database.pool) as (client, opened):
        before = await opened.run(lambda session: session.scalar(text(BACKEND)))
        assert (await client.post(f"/{way}")).status_code == 500
        assert await seats(dsn) == []
        assert (await client.post(f"/{way}?savepoint=true")).status_code == 201
        assert await seats(dsn) == [7]
        assert await opened.run(lambda session: session.scalar(text(BACKEND))) == before
        await until(lambda: opened.stats.in_use == 0)
        assert (opened.stats.open, opened.stats.killed) == (1, 0)
    (error,) = said
    assert error.code == "transaction-failed"
    first = refused.__code__.co_firstlineno
    (failed_at,) = (int(where.rpartition(":")[2]) for where in error.path)
    assert first < failed_at < first + 6
    assert [record for record in caplog.records if record.name == "tenure" and record.levelname != "INFO"] == []


@pytest.mark.usefixtures("table")
async def test_work_is_run_for_what_is_no_def_handler(dsn: str) -> None:
    """`run` commits what it is given to do, rolls back what raises, and gives what is returned."""
    database = sync_engine(dsn, max_size=1)

    def write(session: Session, row: int, *, fails: bool = False) -> int:
        session.add(Seat(id=row, seat=row))
        session.flush()
        if fails:
            raise LookupError
        return row

    async with running(also=[database.pool]) as scope:
        opened = await scope.get(database.pool)
        assert await opened.run(write, 1) == 1
        with pytest.raises(LookupError):
            await opened.run(write, 2, fails=True)
        assert await seats(dsn) == [1]


async def test_streams_tasks_and_sockets_hold_nothing_while_they_wait(dsn: str) -> None:
    """With 50 streams and 20 tasks open on 5 connections, all are idle and a `def` handler's query is answered."""
    database = sync_engine(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    go_on = asyncio.Event()
    waiting: list[int] = []
    Pool = Annotated[SyncEnginePool, Depends(database.pool)]  # noqa: N806 (a type)

    async def use(pool: SyncEnginePool) -> None:
        waiting.append(await pool.run(lambda session: session.scalar(ONE) or 0))
        await go_on.wait()
        await pool.run(lambda session: session.scalar(ONE))

    @app.get("/stream")
    async def stream(pool: Pool) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            await use(pool)
            yield "."

        return StreamingResponse(chunks())

    @app.get("/task")
    def task(pool: Pool, background: BackgroundTasks) -> None:
        background.add_task(use, pool)

    @app.get("/probe")
    def probe(session: Annotated[Session, Depends(database.session)]) -> int | None:
        return session.scalar(text("SELECT 7"))

    async with served(app, database.pool) as (client, opened):
        requests = [asyncio.create_task(client.get(path)) for path in ["/stream"] * 50 + ["/task"] * 20]
        await until(lambda: len(waiting) == len(requests))
        assert (await client.get("/probe")).json() == 7
        assert opened.stats.in_use == 0
        go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*requests)} == {200}


def test_a_websocket_runs_its_work_for_each_message(dsn: str) -> None:
    """While it waits for a message, a websocket holds nothing."""
    database = sync_engine(dsn, max_size=1)
    app = FastAPI(lifespan=lifespan)

    @app.websocket("/")
    async def echo(socket: WebSocket, pool: Annotated[SyncEnginePool, Depends(database.pool)]) -> None:
        await socket.accept()
        async for _ in socket.iter_text():
            await socket.send_json([await pool.run(lambda session: session.scalar(ONE)), pool.stats.in_use])

    with TestClient(app) as client, client.websocket_connect("/") as one, client.websocket_connect("/") as other:
        for socket in (one, other, one):
            socket.send_text("word")
            assert socket.receive_json() == [1, 0]


async def test_a_sync_session_in_an_event_loop_is_refused(dsn: str) -> None:
    """An `async def` handler is told that it would block all others, and where."""
    database = sync_engine(dsn, max_size=1, name="reports")
    app = FastAPI(lifespan=lifespan)

    @app.get("/{warm}")
    async def blocks(warm: int, session: Annotated[Session, Depends(database.session)]) -> str:
        if warm:
            await asyncio.to_thread(session.execute, ONE)
        with pytest.raises(BlockingCall) as refused:
            session.execute(ONE)
        return str(refused.value)

    async with served(app, database.pool) as (client, opened):
        for warm in (0, 1):
            told = (await client.get(f"/{warm}")).json()
            assert "of pool `reports` is used in an event loop, which it would block" in told
            assert "used at tests/pools/test_sqlalchemy_sync.py:" in told
        assert opened.stats.in_use == 0


async def test_a_session_is_over_when_its_handler_has_returned(dsn: str) -> None:
    """What a handler leaves behind, such as a thread, is told to have its own work run."""
    database = sync_engine(dsn, max_size=1)
    app = FastAPI(lifespan=lifespan)
    kept: list[Session] = []

    @app.get("/")
    def keep(session: Annotated[Session, Depends(database.session)]) -> None:
        session.execute(ONE)
        kept.append(session)

    async with served(app, database.pool) as (client, opened):
        await client.get("/")
        with pytest.raises(AlreadyClosed, match=r"await pool\.run"):
            await asyncio.to_thread(kept[0].execute, ONE)
        assert opened.stats.in_use == 0


async def test_the_engine_itself_is_guarded_too(dsn: str) -> None:
    """A thread that borrows from the engine by SQLAlchemy's own means has a place too, which it waits for itself."""
    database = sync_engine(dsn, max_size=2)
    app = FastAPI(lifespan=lifespan)
    in_use: list[int] = []

    @app.get("/")
    def connects(
        engine: Annotated[Engine, Depends(database)], pool: Annotated[SyncEnginePool, Depends(database.pool)]
    ) -> int:
        with engine.connect() as connection, Session(connection) as session:
            in_use.append(pool.stats.in_use)
            return session.execute(SLOW).scalar_one()

    async def answers(client: AsyncClient) -> list[int]:
        return [answer.json() for answer in await asyncio.gather(*[client.get("/") for _ in range(30)])]

    async with served(app, database.pool) as (client, opened):
        assert await answers(client) == [1] * 30
        assert max(in_use) == 2
        await until(lambda: opened.stats.in_use == 0)


async def test_threads_that_are_the_programs_own_share_the_sessions_connection(dsn: str) -> None:
    """A session that a handler hands on to a thread keeps its one connection there."""
    database = sync_engine(dsn, max_size=1, acquire_timeout=20)
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def hands_on(session: Annotated[Session, Depends(database.session)]) -> bool:
        pids: list[object] = []

        def ask() -> None:
            pids.append(session.scalar(text("SELECT pg_backend_pid()")))

        for work in (ask, threading.Thread(target=ask)):
            if isinstance(work, threading.Thread):
                work.start()
                work.join()
            else:
                work()
        return pids[0] == pids[1]

    async with served(app, database.pool) as (client, _):
        assert (await client.get("/")).json() is True


def test_a_handler_that_asks_nothing_takes_no_connection(dsn: str) -> None:
    """Its place is given back, and the server has seen nothing of it."""
    database = sync_engine(dsn, max_size=1, min_size=0)
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def idle(
        session: Annotated[Session, Depends(database.session)],
        pool: Annotated[SyncEnginePool, Depends(database.pool)],
    ) -> list[int]:
        return [pool.stats.in_use, pool.stats.open]

    with TestClient(app) as client:
        assert client.get("/").json() == [1, 0]
        assert client.get("/").json() == [1, 0]
