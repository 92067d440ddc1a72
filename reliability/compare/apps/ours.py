"""tenure's pool, as its guide has it."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from tenure import cancel_on_disconnect, lifespan, scoped
from tenure.pools.asyncpg import Connection, Pool, PoolSettings, pool

kept: list[Any] = []


@scoped("app")
async def closing() -> AsyncIterator[None]:
    """Tell when all that was started after it is closed, the pool too."""
    yield
    print("all is closed", flush=True)  # noqa: T201 (this is how it is seen)


def settings(closing: Annotated[None, Depends(closing)]) -> PoolSettings:  # noqa: ARG001 (it makes the pool close first)
    """Say what the pool is like."""
    return PoolSettings(dsn=os.environ["DATABASE_URL"], min_size=5, max_size=5)


database = pool(settings, name="database")
Database = Annotated[Connection, Depends(database.connection)]
Transaction = Annotated[Connection, Depends(database.transaction)]

app = FastAPI(lifespan=lifespan())


@app.post("/rows/{number}", status_code=201)
async def write(number: int, transaction: Transaction) -> None:
    """Write a row."""
    await transaction.execute("INSERT INTO compared VALUES ($1)", number)


@app.get("/rows/{number}")
async def read(number: int, database: Database) -> bool:
    """Tell whether a row is there."""
    return bool(await database.fetchval("SELECT EXISTS (SELECT FROM compared WHERE id = $1)", number))


@app.get("/probe")
async def probe(database: Database) -> int:
    """Ask the database."""
    return int(await database.fetchval("SELECT 1"))


@app.get("/query")
async def query(database: Database) -> int:
    """Ask for something that takes a tenth of a second."""
    return int(await database.fetchval("SELECT 1 FROM pg_sleep(0.1)"))


@app.get("/slow", dependencies=[Depends(cancel_on_disconnect)])
async def slow(database: Database) -> int:
    """Ask for something that takes twenty seconds."""
    return int(await database.fetchval("SELECT 1 FROM pg_sleep(20)"))


@app.get("/plain")
def plain() -> int:
    """Ask nobody, in a thread."""
    return 1


@app.get("/stream")
async def stream(transaction: Transaction) -> StreamingResponse:
    """Ask for something, then stream without end what has nothing to do with the database."""
    await transaction.fetchval("SELECT 1")

    async def ticks() -> AsyncIterator[str]:
        while True:
            yield "data: tick\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/nested")
async def nested(transaction: Transaction, pool: Annotated[Pool, Depends(database)]) -> int:
    """Hold a connection, and ask for another, as a helper does that borrows for itself."""
    await transaction.fetchval("SELECT 1 FROM pg_sleep(0.2)")
    async with pool.borrow() as other:
        return int(await other.fetchval("SELECT 1"))


@app.get("/leak")
async def leak(pool: Annotated[Pool, Depends(database)]) -> None:
    """Borrow, and never give back."""
    borrowed = pool.borrow()
    await borrowed.__aenter__()
    kept.append(borrowed)
