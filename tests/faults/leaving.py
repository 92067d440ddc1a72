"""An app for a real server, whose clients leave: a pool of five, and handlers that would keep it for long."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from tenure import cancel_on_disconnect, lifespan, scoped

NAME = "leaving"
"""What the pool's connections are called in `pg_stat_activity`."""

counts: Counter[str] = Counter()


@scoped("app")
async def pool() -> AsyncIterator[asyncpg.Pool]:
    """Open five connections."""
    settings = {"application_name": NAME}
    async with asyncpg.create_pool(os.environ["DSN"], min_size=5, max_size=5, server_settings=settings) as pool:
        yield pool


@scoped("function")
async def transaction(pool: Annotated[asyncpg.Pool, Depends(pool)]) -> AsyncIterator[asyncpg.Connection]:
    """Borrow a connection in a transaction."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def counted() -> AsyncIterator[None]:
    """Count the requests that are under way, and how they end."""
    counts["under way"] += 1
    try:
        yield
    except HTTPException as error:
        counts[str(error.status_code)] += 1
        raise
    finally:
        counts["under way"] -= 1


app = FastAPI(lifespan=lifespan)
Transaction = Annotated[asyncpg.Connection, Depends(transaction)]


async def keep(transaction: asyncpg.Connection, seconds: float) -> None:
    """Write a row, and keep the connection for a time."""
    await transaction.execute("INSERT INTO written DEFAULT VALUES")
    await transaction.execute("SELECT pg_sleep($1)", seconds)
    counts["ended"] += 1


@app.get("/impatient", dependencies=[Depends(counted), Depends(cancel_on_disconnect)])
async def impatient(transaction: Transaction, seconds: float) -> None:
    """Keep a connection for as long as the client stays."""
    await keep(transaction, seconds)


@app.get("/patient", dependencies=[Depends(counted)])
async def patient(transaction: Transaction, seconds: float) -> None:
    """Keep a connection, whether or not the client stays."""
    await keep(transaction, seconds)


@app.post("/upload", dependencies=[Depends(counted), Depends(cancel_on_disconnect)])
async def upload(request: Request) -> int:
    """Read a body by itself, and say how long it was."""
    size = 0
    async for part in request.stream():
        counts["parts"] += 1
        size += len(part)
    return size


@app.get("/live")
async def live(transaction: Transaction) -> int:
    """Ask the database something."""
    return int(await transaction.fetchval("SELECT 1"))


@app.get("/counts")
async def read_counts() -> JSONResponse:
    """Give the counts, without the database."""
    return JSONResponse(counts)
