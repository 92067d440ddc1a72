"""What borrows from an asyncpg pool: when a connection is taken and given back, and what is committed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from traceback import format_exception
from typing import Annotated

import asyncpg
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tenure import lifespan, override, running, scoped
from tenure.errors import AlreadyClosed, DeclarationError, StartFailed
from tenure.pools.asyncpg import Connection, Pool, PoolResource, PoolSettings, pool
from tenure.pools.errors import ConcurrentUse, TransactionFailed
from tests.pools.apps import SIZE, served
from tests.pools.forgiven import told_by
from tests.pools.proxy import Proxy
from tests.waiting import until

TABLE = """
DROP TABLE IF EXISTS written;
CREATE TABLE written (id int PRIMARY KEY, seat int UNIQUE DEFERRABLE INITIALLY DEFERRED)
"""
BACKEND = "SELECT pg_backend_pid()"


@pytest.fixture
async def aside(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Make an empty table, and look at it from aside."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(TABLE)
    yield connection
    await connection.close()


async def rows(aside: asyncpg.Connection) -> list[int]:
    """Give what is committed."""
    return [row["id"] for row in await aside.fetch("SELECT id FROM written ORDER BY id")]


async def test_a_handler_that_waits_for_something_else_holds_no_connection(dsn: str) -> None:
    """Fifty handlers that have had an answer and wait hold nothing, and the next query is answered."""
    database = pool(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    go_on = asyncio.Event()
    queried: list[int] = []

    @app.get("/waits")
    async def waits(connection: Annotated[Connection, Depends(database.connection)]) -> None:
        queried.append(await connection.fetchval("SELECT 1"))
        await go_on.wait()

    @app.get("/probe")
    async def probe(connection: Annotated[Connection, Depends(database.connection)]) -> int:
        return await connection.fetchval("SELECT 7")

    async with served(app, database) as (client, opened):
        waiting = [asyncio.create_task(client.get("/waits")) for _ in range(50)]
        await until(lambda: len(queried) == 50)
        assert (await client.get("/probe")).json() == 7
        assert (opened.stats.in_use, opened.stats.waiting) == (0, 0)
        go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_streams_and_background_tasks_use_what_the_handler_was_given(dsn: str) -> None:
    """After the answer has begun, each statement still borrows for itself."""
    database = pool(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    in_background: list[int] = []

    @app.get("/")
    async def stream(
        connection: Annotated[Connection, Depends(database.connection)], background: BackgroundTasks
    ) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for number in range(3):
                yield str(await connection.fetchval("SELECT $1::int", number))

        async def later() -> None:
            in_background.append(await connection.fetchval("SELECT 4"))

        background.add_task(later)
        return StreamingResponse(chunks(), background=background)

    async with served(app, database) as (client, opened):
        assert (await client.get("/")).text == "012"
        assert in_background == [4]
        assert opened.stats.in_use == 0


def test_a_websocket_borrows_for_each_message(dsn: str) -> None:
    """While it waits for a message, a websocket holds nothing."""
    database = pool(dsn, max_size=1)
    app = FastAPI(lifespan=lifespan)

    @app.websocket("/")
    async def echo(
        socket: WebSocket,
        connection: Annotated[Connection, Depends(database.connection)],
        pool: Annotated[Pool, Depends(database)],
    ) -> None:
        await socket.accept()
        async for word in socket.iter_text():
            await socket.send_json([await connection.fetchval("SELECT $1", word), pool.stats.in_use])

    with TestClient(app) as client, client.websocket_connect("/") as one, client.websocket_connect("/") as other:
        for socket in (one, other, one):
            socket.send_text("word")
            assert socket.receive_json() == ["word", 0]


async def test_statements_at_once_have_a_connection_each(dsn: str) -> None:
    """Queries that are gathered run side by side, on as many connections as there are."""
    database = pool(dsn, max_size=2)
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def gathers(connection: Annotated[Connection, Depends(database.connection)]) -> list[int]:
        return await asyncio.gather(*[connection.fetchval("SELECT pg_backend_pid(), pg_sleep(0.05)") for _ in range(6)])

    async with served(app, database) as (client, _):
        assert len(set((await client.get("/")).json())) == 2


def writing(database: PoolResource) -> FastAPI:
    """Make an app that writes in a transaction, by way of two dependencies."""
    app = FastAPI(lifespan=lifespan)

    async def seats(connection: Annotated[Connection, Depends(database.connection)]) -> Connection:
        return connection

    @app.post("/{row}/{seat}", status_code=201)
    async def write(
        row: int,
        seat: int,
        transaction: Annotated[Connection, Depends(database.transaction)],
        other: Annotated[Connection, Depends(seats)],
    ) -> int:
        await transaction.execute("INSERT INTO written VALUES ($1, $2)", row, seat)
        seen: int = await other.fetchval("SELECT count(*) FROM written WHERE id = $1", row)
        await other.execute("INSERT INTO written VALUES ($1, $2)", row + 1000, seat + 1000)
        if row > 100:
            raise HTTPException(404, "There is no such row")
        return seen

    @app.get("/idle")
    async def idle(
        transaction: Annotated[Connection, Depends(database.transaction)], pool: Annotated[Pool, Depends(database)]
    ) -> int:
        del transaction
        return pool.stats.in_use

    return app


async def test_a_transaction_is_committed_before_its_answer(dsn: str, aside: asyncpg.Connection) -> None:
    """All that a request has written is there for others when the client has its 201."""
    database = pool(dsn, max_size=SIZE)
    async with served(writing(database), database) as (client, opened):
        for row in range(20):
            answer = await client.post(f"/{row}/{row}")
            assert (answer.status_code, answer.json()) == (201, 1)
            assert {row, row + 1000} <= set(await rows(aside))
        assert opened.stats.in_use == 0


async def test_a_transaction_is_rolled_back_when_its_handler_raises(dsn: str, aside: asyncpg.Connection) -> None:
    """An HTTPException after the write leaves nothing of it, nor of what other dependencies have written."""
    database = pool(dsn, max_size=SIZE)
    async with served(writing(database), database) as (client, opened):
        assert (await client.post("/101/1")).status_code == 404
        assert await rows(aside) == []
        assert opened.stats.in_use == 0


async def test_a_commit_that_fails_is_an_error_that_the_client_sees(dsn: str, aside: asyncpg.Connection) -> None:
    """What the database refuses at commit is no 201, and an exception handler of the app may say what it is."""
    database = pool(dsn, max_size=SIZE)
    app = writing(database)
    async with served(app, database) as (client, opened):
        assert (await client.post("/1/1")).status_code == 201
        assert (await client.post("/2/1")).status_code == 500
        assert await rows(aside) == [1, 1001]
        assert opened.stats.in_use == 0


async def test_a_transaction_that_is_not_used_borrows_nothing(dsn: str) -> None:
    """It begins with its first statement."""
    database = pool(dsn, max_size=SIZE)
    async with served(writing(database), database) as (client, _):
        assert (await client.get("/idle")).json() == 0


async def test_gathered_statements_of_a_transaction_run_one_after_the_other(dsn: str) -> None:
    """They are all answered, on the one connection that has the transaction."""
    database = pool(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def gathers(transaction: Annotated[Connection, Depends(database.transaction)]) -> list[int]:
        return await asyncio.gather(*[transaction.fetchval(BACKEND) for _ in range(8)])

    async with served(app, database) as (client, _):
        assert len(set((await client.get("/")).json())) == 1


async def test_a_transaction_that_is_over_is_not_used_by_a_stream(dsn: str) -> None:
    """A stream that goes on with it hears so, and what to take instead."""
    database = pool(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    heard: list[str] = []

    @app.get("/")
    async def stream(transaction: Annotated[Connection, Depends(database.transaction)]) -> StreamingResponse:
        await transaction.execute("SELECT 1")

        async def chunks() -> AsyncIterator[str]:
            try:
                yield await transaction.fetchval("SELECT 'x'")
            except AlreadyClosed as error:
                heard.append(error.hint)
                yield "over"

        return StreamingResponse(chunks())

    async with served(app, database) as (client, _):
        assert (await client.get("/")).text == "over"
    assert "Depends(database.connection)" in heard[0]


async def test_how_a_transaction_begins_is_declared(dsn: str) -> None:
    """A read-only, serializable one is another dependency of the same pool."""
    database = pool(dsn, max_size=SIZE)
    report = database.transactions(isolation="serializable", readonly=True)
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def settings(transaction: Annotated[Connection, Depends(report)]) -> list[str]:
        return [
            await transaction.fetchval("SHOW transaction_isolation"),
            await transaction.fetchval("SHOW transaction_read_only"),
        ]

    async with served(app, database) as (client, _):
        assert (await client.get("/")).json() == ["serializable", "on"]


async def test_two_transactions_of_a_request_are_one(dsn: str, aside: asyncpg.Connection) -> None:
    """The second is a savepoint of the first: on its connection, and undone with it."""
    database = pool(dsn, max_size=1)
    again = database.transactions()
    app = FastAPI(lifespan=lifespan)

    @app.post("/{row}")
    async def write(
        row: int,
        first: Annotated[Connection, Depends(database.transaction)],
        second: Annotated[Connection, Depends(again)],
    ) -> bool:
        await second.execute("INSERT INTO written (id) VALUES ($1)", row)
        if row == 1:
            raise HTTPException(409)
        return bool(await first.fetchval(BACKEND) == await second.fetchval(BACKEND))

    async with served(app, database) as (client, opened):
        assert (await client.post("/1")).status_code == 409
        assert (await client.post("/2")).json() is True
        assert opened.stats.in_use == 0
    assert await rows(aside) == [2]


async def cut_off(proxy: Proxy, ask: Callable[[], Awaitable[object]]) -> None:
    """Cancel what waits for an answer, just before there is one."""
    proxy.fall_silent()
    asking = asyncio.ensure_future(ask())
    await until(lambda: proxy.kept)
    asking.cancel()
    proxy.speak()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_follows_a_beginning_that_was_cut_off_is_in_a_transaction(
    dsn: str, aside: asyncpg.Connection
) -> None:
    """A first statement that is given up while the transaction begins takes neither commit nor rollback from others."""
    async with Proxy(dsn) as proxy:
        database = pool(proxy.dsn, min_size=1)
        app = FastAPI(lifespan=lifespan)

        @app.post("/{row}", status_code=201)
        async def write(row: int, transaction: Annotated[Connection, Depends(database.transaction)]) -> None:
            await cut_off(proxy, lambda: transaction.fetchval("SELECT 1"))
            await transaction.execute("INSERT INTO written (id) VALUES ($1)", row)
            assert await rows(aside) == []
            if row > 100:
                raise HTTPException(404)

        async with served(app, database) as (client, opened):
            assert (await client.post("/101")).status_code == 404
            assert (await client.post("/1")).status_code == 201
            assert await rows(aside) == [1]
            assert (opened.stats.in_use, opened.stats.killed) == (0, 0)


async def test_a_block_whose_beginning_is_cut_off_leaves_no_transaction_behind(
    dsn: str, aside: asyncpg.Connection
) -> None:
    """What else is done on the borrowed connection is committed by itself, and a later block is a transaction."""
    async with Proxy(dsn) as proxy:
        database = pool(proxy.dsn, min_size=1)
        async with running(also=[database]) as scope, (await scope.get(database)).borrow() as connection:
            await cut_off(proxy, lambda: insert_all(connection, 1))
            await connection.execute("INSERT INTO written (id) VALUES (2)")
            assert await rows(aside) == [2]
            await insert_all(connection, 3)
            assert await rows(aside) == [2, 3]


async def test_a_rollback_keeps_the_connection(dsn: str, aside: asyncpg.Connection) -> None:
    """What has rolled back serves the next one on the same connection, and nothing is warned of."""
    database = pool(dsn, max_size=1)
    async with served(writing(database), database) as (client, opened):
        before = await opened_by(opened)
        for row in (101, 102):
            assert (await client.post(f"/{row}/1")).status_code == 404
        assert await opened_by(opened) == before
        assert await rows(aside) == []


async def opened_by(pool: Pool) -> int:
    """Tell which connection the pool lends."""
    async with pool.borrow() as connection:
        return await connection.fetchval(BACKEND)


async def test_a_block_that_ends_under_another_statement_and_is_cancelled_gives_its_connection_back(
    dsn: str, aside: asyncpg.Connection
) -> None:
    """While a task that it has left behind still uses the connection, its end is waited for, cancelled or not."""
    database = pool(dsn, max_size=1)
    async with running(also=[database, database.connection]) as scope:
        opened, connection = await scope.get(database), await scope.get(database.connection)
        left: list[asyncio.Task[object]] = []

        async def work() -> None:
            async with connection.transaction() as transaction:
                await transaction.execute("INSERT INTO written (id) VALUES (1)")
                left.append(asyncio.create_task(transaction.fetchval("SELECT pg_advisory_xact_lock(4711)")))
                await asyncio.sleep(0)  # it has begun

        await aside.execute("SELECT pg_advisory_lock(4711)")
        working = asyncio.create_task(work())
        await until(lambda: left)
        working.cancel()
        await aside.execute("SELECT pg_advisory_unlock(4711)")
        with pytest.raises(asyncio.CancelledError):
            await working
        await left[0]
        await until(lambda: opened.stats.in_use == 0)
        assert await rows(aside) == []


async def refused(connection: Connection) -> None:
    """Be refused by the database, and think nothing of it."""
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO written (id) VALUES (1), (1)")


async def given_up(connection: Connection) -> None:
    """Wait for an answer that takes too long, and think nothing of it."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await connection.fetchval("SELECT pg_sleep(50)")


def forgiving(database: PoolResource, fail: Callable[[Connection], Awaitable[None]]) -> FastAPI:
    """Make an app that goes on where a statement has failed, in each way to have a transaction."""
    app = FastAPI(lifespan=lifespan)

    async def write(connection: Connection, *, savepoint: bool) -> None:
        await connection.execute("INSERT INTO written (id) VALUES (7)")
        if savepoint:
            with suppress(LookupError):
                async with connection.transaction():
                    await fail(connection)
                    raise LookupError
        else:
            await fail(connection)

    @app.post("/declared", status_code=201)
    async def declared(
        transaction: Annotated[Connection, Depends(database.transaction)], *, savepoint: bool = False
    ) -> None:
        await write(transaction, savepoint=savepoint)

    @app.post("/block", status_code=201)
    async def block(
        connection: Annotated[Connection, Depends(database.connection)], *, savepoint: bool = False
    ) -> None:
        async with connection.transaction() as transaction:
            await write(transaction, savepoint=savepoint)

    @app.post("/borrowed", status_code=201)
    async def borrowed(pool: Annotated[Pool, Depends(database)], *, savepoint: bool = False) -> None:
        async with pool.borrow() as connection, connection.transaction() as transaction:
            await write(transaction, savepoint=savepoint)

    return app


@pytest.mark.parametrize("fail", [refused, given_up])
@pytest.mark.parametrize("way", ["declared", "block", "borrowed"])
async def test_a_transaction_in_which_a_statement_has_failed_is_no_success(
    dsn: str, aside: asyncpg.Connection, way: str, fail: Callable[[Connection], Awaitable[None]]
) -> None:
    """PostgreSQL commits nothing of it: where the error was caught, the end raises; a savepoint bounds the failure."""
    database = pool(dsn, max_size=1)
    app = forgiving(database, fail)
    said = told_by(app)

    async with served(app, database) as (client, opened):
        before = await opened_by(opened)
        assert (await client.post(f"/{way}")).status_code == 500
        assert await rows(aside) == []
        assert (await client.post(f"/{way}?savepoint=true")).status_code == 201
        assert await rows(aside) == [7]
        assert await opened_by(opened) == before
        assert (opened.stats.in_use, opened.stats.killed) == (0, 0)
    (error,) = said
    assert error.code == "transaction-failed"
    line = fail.__code__.co_firstlineno  # type: ignore[attr-defined]
    (failed_at,) = (int(where.rpartition(":")[2]) for where in error.path)
    assert line < failed_at < line + 6


async def test_a_savepoint_in_which_a_statement_has_failed_is_no_success_either(
    dsn: str, aside: asyncpg.Connection
) -> None:
    """Its end raises, it is undone, and the transaction around it goes on; later statements do not hide the line."""
    database = pool(dsn, max_size=1)

    async def fail(connection: Connection) -> None:
        async with connection.transaction():
            await refused(connection)
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await connection.fetchval("SELECT 1")

    async with running(also=[database.connection]) as scope:
        connection = await scope.get(database.connection)
        async with connection.transaction():
            await connection.execute("INSERT INTO written (id) VALUES (7)")
            with pytest.raises(TransactionFailed) as raised:
                await fail(connection)
            await connection.execute("INSERT INTO written (id) VALUES (8)")
        assert await rows(aside) == [7, 8]
    assert raised.value.path == (f"failed at tests/pools/test_asyncpg.py:{refused.__code__.co_firstlineno + 3}",)


async def test_a_failure_on_the_drivers_own_connection_is_no_success(dsn: str, aside: asyncpg.Connection) -> None:
    """What fails out of our sight is found out at the end of the transaction."""
    database = pool(dsn, max_size=1)

    async def write(connection: Connection) -> None:
        async with connection.transaction() as transaction:
            driver = transaction.driver_connection
            await driver.execute("INSERT INTO written (id) VALUES (7)")
            with pytest.raises(asyncpg.UniqueViolationError):
                await driver.execute("INSERT INTO written (id) VALUES (7)")

    async with running(also=[database.connection]) as scope:
        with pytest.raises(TransactionFailed):
            await write(await scope.get(database.connection))
    assert await rows(aside) == []


async def insert_all(connection: Connection, *numbers: int) -> None:
    """Insert all of them or none."""
    async with connection.transaction():
        for number in numbers:
            await connection.execute("INSERT INTO written (id) VALUES ($1)", number)


async def test_a_block_is_all_or_nothing_and_a_block_in_it_a_savepoint(dsn: str, aside: asyncpg.Connection) -> None:
    """An inner transaction that fails takes only its own with it."""
    database = pool(dsn, max_size=SIZE)
    insert = "INSERT INTO written (id) VALUES ($1)"
    async with running(also=[database.connection]) as scope:
        connection = await scope.get(database.connection)
        async with connection.transaction() as outer:
            await outer.execute(insert, 1)
            with pytest.raises(asyncpg.UniqueViolationError):
                await insert_all(connection, 2, 1)
            await connection.execute(insert, 3)
            assert await rows(aside) == []
        assert await rows(aside) == [1, 3]
        with pytest.raises(asyncpg.UniqueViolationError):
            await insert_all(connection, 4, 1)
        assert await rows(aside) == [1, 3]


async def test_two_tasks_that_open_transactions_on_one_connection_are_told_where(dsn: str) -> None:
    """Of two tasks that share a transaction, the second to open a savepoint hears of both places."""
    database = pool(dsn, max_size=SIZE)
    async with running(also=[database]) as scope, (await scope.get(database)).borrow() as connection:
        opened, go_on = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with connection.transaction():
                opened.set()
                await go_on.wait()

        async def second() -> None:
            await opened.wait()
            async with connection.transaction():
                pass

        task = asyncio.create_task(first())
        with pytest.raises(ConcurrentUse) as raised:
            await second()
        go_on.set()
        await task
    assert [line.partition(" at ")[2].partition(":")[0] for line in raised.value.path] == [
        "tests/pools/test_asyncpg.py"
    ] * 2
    assert len(set(raised.value.path)) == 2


async def test_a_second_borrow_is_the_same_connection(dsn: str) -> None:
    """Five requests on five connections that borrow once more, at the same time, are all answered."""
    database = pool(dsn, max_size=SIZE)
    app = FastAPI(lifespan=lifespan)
    together = asyncio.Barrier(SIZE)

    @app.get("/")
    async def nested(
        transaction: Annotated[Connection, Depends(database.transaction)], pool: Annotated[Pool, Depends(database)]
    ) -> bool:
        first = await transaction.fetchval(BACKEND)
        await together.wait()
        async with pool.borrow() as second:
            return bool(await second.fetchval(BACKEND) == first)

    async with served(app, database) as (client, _):
        answers = await asyncio.gather(*[client.get("/") for _ in range(SIZE)])
        assert [answer.json() for answer in answers] == [True] * SIZE


async def test_a_separate_second_borrow_cannot_deadlock(dsn: str) -> None:
    """Where five hold all five and each asks for another, one is refused at once, and the others have theirs."""
    database = pool(dsn, max_size=SIZE, acquire_timeout=50)
    app = FastAPI(lifespan=lifespan)
    together = asyncio.Barrier(SIZE)

    @app.get("/")
    async def nested(
        transaction: Annotated[Connection, Depends(database.transaction)], pool: Annotated[Pool, Depends(database)]
    ) -> bool:
        first = await transaction.fetchval(BACKEND)
        await together.wait()
        async with pool.borrow(separate=True) as second:
            return bool(await second.fetchval(BACKEND) != first)

    async with served(app, database) as (client, opened), asyncio.timeout(40):
        answers = await asyncio.gather(*[client.get("/") for _ in range(SIZE)])
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 503]
        assert all(answer.json() is True for answer in answers if answer.status_code == 200)
        assert opened.stats.in_use == 0


async def test_a_block_keeps_the_state_of_its_session(dsn: str) -> None:
    """What `SET` sets lasts for a borrowed block, and is gone for the next borrower."""
    database = pool(dsn, max_size=1)
    async with running(also=[database, database.connection]) as scope:
        opened, alone = await scope.get(database), await scope.get(database.connection)
        async with opened.borrow() as connection:
            await connection.execute("SET application_name = 'kept'")
            assert await connection.fetchval("SHOW application_name") == "kept"
            assert await alone.fetchval("SHOW application_name") == "kept"
            assert connection.driver_connection.get_server_pid() == await connection.fetchval(BACKEND)
        assert await alone.fetchval("SHOW application_name") != "kept"
        with pytest.raises(AlreadyClosed):
            _ = connection.driver_connection


async def test_rows_come_one_by_one(dsn: str) -> None:
    """A cursor gives a query's rows in parts, while other statements run on the same connection."""
    database = pool(dsn, max_size=1)
    async with running(also=[database.connection]) as scope:
        connection = await scope.get(database.connection)
        async with connection.transaction():
            numbers = connection.cursor("SELECT generate_series(1, $1::int) AS n", 7, prefetch=3)
            seen = [await connection.fetchval("SELECT $1::int", row["n"]) async for row in numbers]
        assert seen == [1, 2, 3, 4, 5, 6, 7]
        with pytest.raises(asyncpg.NoActiveSQLTransactionError):
            await anext(connection.cursor("SELECT 1"))


async def test_many_are_written_at_once(dsn: str, aside: asyncpg.Connection) -> None:
    """A statement for many arguments and a copy of many records."""
    database = pool(dsn, max_size=1)
    async with running(also=[database.connection]) as scope:
        connection = await scope.get(database.connection)
        await connection.executemany("INSERT INTO written (id) VALUES ($1)", [(1,), (2,)])
        assert await connection.copy_records_to_table("written", records=[(3,), (4,)], columns=["id"]) == "COPY 2"
        first = await connection.fetchrow("SELECT id FROM written ORDER BY id DESC")
        assert first is not None
        assert first["id"] == 4
    assert await rows(aside) == [1, 2, 3, 4]


async def test_an_address_may_come_from_settings(dsn: str) -> None:
    """A resource, a plain function, a secret and whole settings serve as well as text."""

    @scoped("app")
    async def address() -> SecretStr:
        return SecretStr(dsn)

    def settings(address: Annotated[SecretStr, Depends(address)]) -> PoolSettings:
        return PoolSettings(dsn=address.get_secret_value(), max_size=3)

    for source, size in ((address, 10), (settings, 3), (PoolSettings(dsn=dsn, max_size=4), 4), (lambda: dsn, 10)):
        database = pool(source)
        async with running(also=[database]) as scope:
            assert (await scope.get(database)).stats.size == size


def test_what_a_pool_gives_is_known_by_the_line_of_the_pool() -> None:
    """Errors name the line of the program, for a transaction too, and for another kind of it the line of that."""
    line = test_what_a_pool_gives_is_known_by_the_line_of_the_pool.__code__.co_firstlineno
    database = pool("postgresql://nowhere")
    report = database.transactions(readonly=True)
    where = f"tests/pools/test_asyncpg.py:{line + 3}"
    assert [each.location for each in (database, database.connection, database.transaction)] == [where] * 3
    assert report.location == f"tests/pools/test_asyncpg.py:{line + 4}"


@pytest.mark.parametrize("given", ["mysql://root:secret@localhost/x", 7, {"max_size": 0}, {"acquire_timeout": -1}])
async def test_what_is_no_pool_is_refused_at_start(dsn: str, given: object) -> None:
    """The start says what is wrong, and never repeats an address, which may hold a password."""
    database = pool(dsn, **given) if isinstance(given, dict) else pool(lambda: given)
    with pytest.raises(StartFailed) as raised:
        async with running(also=[database]):
            pass
    assert isinstance(raised.value.__cause__, DeclarationError)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("password", ["secret#1", "secret/1", "secret?1", "1@secret:2", "1#secret", "[secret]"])
async def test_a_password_that_is_not_encoded_is_not_shown(password: str) -> None:
    """A sign in it makes the address another one: the start says what to do, and nothing of what it is taken for."""
    address = f"postgresql://roster:{password}@127.0.0.1:1/roster"
    for source in (address, SecretStr(address), PoolSettings(dsn=address)):
        with pytest.raises(StartFailed) as raised:
            async with running(also=[pool(lambda source=source: source)]):
                pass
        assert isinstance(raised.value.__cause__, DeclarationError)
        assert "an address that a pool was given cannot be read" in str(raised.value)
        assert "percent-encode `#`, `/`, `?`, `@` and `:` in a password" in str(raised.value)
        assert "secret" not in "".join(format_exception(raised.value))


async def test_a_server_that_is_not_there_is_said_at_start() -> None:
    """The start fails at once, with the reason and without the password."""
    database = pool("postgresql://roster:secret@127.0.0.1:1/roster", name="database")
    with pytest.raises(StartFailed) as raised:
        async with running(also=[database]):
            pass
    assert "the server of pool `database` cannot be used: " in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_a_pool_that_is_closed_says_so(dsn: str) -> None:
    """What an app gave out is refused after it has closed."""
    database = pool(dsn)
    async with running(also=[database.connection, database]) as scope:
        connection, opened = await scope.get(database.connection), await scope.get(database)
    with pytest.raises(AlreadyClosed):
        await connection.fetch("SELECT 1")
    with pytest.raises(AlreadyClosed):
        async with opened.borrow():
            pass


def test_a_double_takes_the_place_of_what_is_borrowed() -> None:
    """With the connection and the pool overridden, no server is needed."""
    database = pool("postgresql://nowhere.invalid/x")
    app = FastAPI(lifespan=lifespan)

    class Double:
        async def fetchval(self, query: str) -> str:
            return query

    @app.get("/")
    async def index(
        connection: Annotated[Connection, Depends(database.connection)],
        transaction: Annotated[Connection, Depends(database.transaction)],
    ) -> list[str]:
        return [await connection.fetchval("one"), await transaction.fetchval("two")]

    doubles = {database: lambda: None, database.connection: Double, database.transaction: Double}
    with override(app, doubles), TestClient(app) as client:
        assert client.get("/").json() == ["one", "two"]
