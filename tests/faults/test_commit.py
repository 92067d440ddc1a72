"""A write is committed before its answer leaves, or the client hears of the failure; with a real PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Annotated

import asyncpg
import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from tenure import lifespan, override, running, scoped

WRITES = 600


@scoped("app")
async def address() -> str:
    """Give the server's address; each test overrides it."""
    return "postgresql://nowhere"


@scoped("app")
async def pool(address: Annotated[str, Depends(address)]) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool of five, on a table whose rows take 20 ms to commit, and whose negative ones fail to."""
    async with asyncpg.create_pool(address, min_size=5, max_size=5) as pool:
        await pool.execute("""
            DROP TABLE IF EXISTS written;
            CREATE TABLE written(id int PRIMARY KEY);
            CREATE OR REPLACE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              PERFORM pg_sleep(0.02);
              IF NEW.id < 0 THEN RAISE EXCEPTION 'refused at commit'; END IF;
              RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW EXECUTE FUNCTION slow_commit();
        """)
        yield pool


@scoped("function")
async def transaction(pool: Annotated[asyncpg.Pool, Depends(pool)]) -> AsyncIterator[asyncpg.Connection]:
    """Borrow a connection in a transaction."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection


Pool = Annotated[asyncpg.Pool, Depends(pool)]
Transaction = Annotated[asyncpg.Connection, Depends(transaction)]

app = FastAPI(lifespan=lifespan)


@app.post("/{row}", status_code=201)
async def write(row: int, transaction: Transaction) -> None:
    """Write a row."""
    await transaction.execute("INSERT INTO written VALUES ($1)", row)


@app.post("/refused/{row}")
async def write_and_refuse(row: int, transaction: Transaction) -> None:
    """Write a row, then refuse the request."""
    await transaction.execute("INSERT INTO written VALUES ($1)", row)
    raise HTTPException(403)


@app.post("/streamed/{row}")
async def write_and_stream(row: int, transaction: Transaction, pool: Pool) -> StreamingResponse:
    """Write a row, then say in the first byte whether others see it."""
    await transaction.execute("INSERT INTO written VALUES ($1)", row)

    async def body() -> AsyncIterator[str]:
        yield str(await pool.fetchval("SELECT count(*) FROM written WHERE id = $1", row))

    return StreamingResponse(body())


@app.get("/{row}")
async def read(row: int, pool: Pool) -> bool:
    """Tell whether a row is there."""
    return bool(await pool.fetchval("SELECT count(*) FROM written WHERE id = $1", row))


@pytest.fixture
async def client(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """Call the app in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with override(app, {address: lambda: dsn}):
        async with running(app), httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield client


async def test_a_row_is_there_as_soon_as_its_write_was_answered(client: httpx.AsyncClient) -> None:
    """Of 600 writes with a commit of 20 ms, each read at once, none is missed."""
    missed = 0
    for row in range(WRITES):
        assert (await client.post(f"/{row}")).status_code == 201
        missed += not (await client.get(f"/{row}")).json()
    assert missed == 0


async def test_a_commit_that_fails_is_never_answered_with_success(client: httpx.AsyncClient) -> None:
    """Of 20 writes that PostgreSQL refuses at commit, none is answered 201 and none is there."""
    answers = [(await client.post(f"/{row}")).status_code for row in range(-20, 0)]
    assert answers == [500] * 20
    assert [(await client.get(f"/{row}")).json() for row in range(-20, 0)] == [False] * 20


async def test_a_write_is_rolled_back_when_the_request_is_refused(client: httpx.AsyncClient) -> None:
    """A 403 raised after the write takes the write back."""
    assert (await client.post("/refused/1")).status_code == 403
    assert (await client.get("/1")).json() is False


async def test_a_stream_begins_after_the_commit(client: httpx.AsyncClient) -> None:
    """The first byte of a streamed answer already sees the row from another connection."""
    assert (await client.post("/streamed/1")).text == "1"
