"""An app for real servers, over SQLAlchemy's sync engine, with `def` handlers that read and write."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from tenure import lifespan, scoped
from tenure.pools.sqlalchemy import PoolSettings, SyncEnginePool, sync_engine
from tests.faults.pools.settings import Ask, application_name, given, say


def settings() -> PoolSettings:
    """Read what the test wants of the pool."""
    return given({"connect_args": {"application_name": application_name()}})


database = sync_engine(settings, name="database")
shared = database
Opened = Annotated[SyncEnginePool, Depends(database.pool)]
Writing = Annotated[Session, Depends(database.session)]


async def reading(engine: Engine) -> Ask:
    """Give what borrows from the engine for one statement, in a thread."""

    def ask(query: str) -> Any:
        with engine.connect() as connection:
            return connection.scalar(text(query))

    return partial(asyncio.to_thread, ask)


@scoped("app")
async def above(pool: Opened) -> AsyncIterator[None]:
    """Tell that the pool is open."""
    say("opened")
    yield


app = FastAPI(lifespan=lifespan(also=[above, shared], grace=1))


@app.get("/ready")
async def ready(pool: Opened) -> JSONResponse:
    """Tell how the pool is doing, and borrow nothing."""
    return JSONResponse(asdict(pool.stats))


@app.get("/echo/{number}")
def echo(number: int, session: Writing) -> dict[str, int]:
    """Give back what the database says, and who has asked whom."""
    said = session.scalar(text("SELECT concat(CAST(:number AS int), ' ', pg_backend_pid())"), {"number": number})
    found, backend = str(said).split()
    return {"number": int(found), "session": int(backend), "worker": os.getpid()}


@app.post("/rows/{number}", status_code=201)
def write(number: int, session: Writing) -> None:
    """Write a row."""
    session.execute(text("INSERT INTO written VALUES (:number)"), {"number": number})
