"""An app for real servers, over SQLAlchemy's sync engine, with `def` handlers that read and write."""

import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.orm import Session

from tenure import lifespan, scoped
from tenure.pools.sqlalchemy import PoolSettings, SyncEnginePool, sync_engine
from tests.faults.pools.settings import application_name, given, say


def settings() -> PoolSettings:
    """Read what the test wants of the pool."""
    return given({"connect_args": {"application_name": application_name()}})


database = sync_engine(settings, name="database")
Opened = Annotated[SyncEnginePool, Depends(database.pool)]
Writing = Annotated[Session, Depends(database.session)]


@scoped("app")
async def above(pool: Opened) -> AsyncIterator[None]:
    """Tell that the pool is open."""
    say("opened")
    yield


app = FastAPI(lifespan=lifespan(also=[above], grace=1))


@app.get("/ready")
async def ready(pool: Opened) -> JSONResponse:
    """Tell how the pool is doing, and borrow nothing."""
    return JSONResponse(asdict(pool.stats))


@app.get("/echo/{number}")
def echo(number: int, session: Writing) -> dict[str, int]:
    """Give back what the database says, and who has asked."""
    said = session.scalar(text("SELECT CAST(:number AS int)"), {"number": number})
    return {"number": said, "worker": os.getpid()}


@app.post("/rows/{number}", status_code=201)
def write(number: int, session: Writing) -> None:
    """Write a row."""
    session.execute(text("INSERT INTO written VALUES (:number)"), {"number": number})
