"""
A lifespan written by hand, as the specification's page has it: a global pool, a dependency that borrows from it.

The page only reads. A write needs a transaction, and that is the dependency that programs write for it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

pool: Any = None
kept: list[Any] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:  # noqa: ARG001 (FastAPI gives it)
    """Make what is shared, and close it."""
    global pool  # noqa: PLW0603 (as the page has it)
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=5)
    yield
    await pool.close()
    print("all is closed", flush=True)  # noqa: T201 (this is how it is seen)


app = FastAPI(lifespan=lifespan)


async def get_conn() -> AsyncIterator[Any]:
    """Borrow a connection for a request."""
    async with pool.acquire() as conn:
        yield conn


Conn = Annotated[Any, Depends(get_conn)]


async def get_transaction(conn: Conn) -> AsyncIterator[Any]:
    """Commit when the request is over, or roll back."""
    async with conn.transaction():
        yield conn


Transaction = Annotated[Any, Depends(get_transaction)]


@app.post("/rows/{number}", status_code=201)
async def write(number: int, conn: Transaction) -> None:
    """Write a row."""
    await conn.execute("INSERT INTO compared VALUES ($1)", number)


@app.get("/rows/{number}")
async def read(number: int, conn: Conn) -> bool:
    """Tell whether a row is there."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM compared WHERE id = $1)", number))


@app.get("/probe")
async def probe(conn: Conn) -> int:
    """Ask the database."""
    return int(await conn.fetchval("SELECT 1"))


@app.get("/query")
async def query(conn: Conn) -> int:
    """Ask for something that takes a tenth of a second."""
    return int(await conn.fetchval("SELECT 1 FROM pg_sleep(0.1)"))


@app.get("/slow")
async def slow(conn: Conn) -> int:
    """Ask for something that takes twenty seconds."""
    return int(await conn.fetchval("SELECT 1 FROM pg_sleep(20)"))


@app.get("/plain")
def plain() -> int:
    """Ask nobody, in a thread."""
    return 1


@app.get("/stream")
async def stream(conn: Conn) -> StreamingResponse:
    """Ask for something, then stream without end what has nothing to do with the database."""
    await conn.fetchval("SELECT 1")

    async def ticks() -> AsyncIterator[str]:
        while True:
            yield "data: tick\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/nested")
async def nested(conn: Transaction) -> int:
    """Hold a connection, and ask for another, as a helper does that borrows for itself."""
    await conn.fetchval("SELECT 1 FROM pg_sleep(0.2)")
    async with pool.acquire() as other:
        return int(await other.fetchval("SELECT 1"))


@app.get("/leak")
async def leak() -> None:
    """Borrow, and never give back."""
    kept.append(await pool.acquire())
