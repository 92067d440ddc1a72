"""
The session pattern of full-stack-fastapi-template: a global engine, a `def` dependency, `def` handlers that commit.

The pattern is SQLAlchemy's; the template's SQLModel is a layer above it. The template closes nothing at the end: the
lifespan is here for the end to be seen.
"""

import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"), pool_size=5, max_overflow=0
)
kept: list[Any] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:  # noqa: ARG001 (FastAPI gives it)
    """Close the engine."""
    yield
    engine.dispose()
    print("all is closed", flush=True)  # noqa: T201 (this is how it is seen)


app = FastAPI(lifespan=lifespan)


def get_db() -> Iterator[Session]:
    """Give a session for a request."""
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_db)]


@app.post("/rows/{number}", status_code=201)
def write(number: int, session: SessionDep) -> None:
    """Write a row."""
    session.execute(text("INSERT INTO compared VALUES (:number)"), {"number": number})
    session.commit()


@app.get("/rows/{number}")
def read(number: int, session: SessionDep) -> bool:
    """Tell whether a row is there."""
    found = text("SELECT EXISTS (SELECT FROM compared WHERE id = :number)")
    return bool(session.execute(found, {"number": number}).scalar())


@app.get("/probe")
def probe(session: SessionDep) -> int:
    """Ask the database."""
    return int(session.execute(text("SELECT 1")).scalar_one())


@app.get("/query")
def query(session: SessionDep) -> int:
    """Ask for something that takes a tenth of a second."""
    return int(session.execute(text("SELECT 1 FROM pg_sleep(0.1)")).scalar_one())


@app.get("/slow")
def slow(session: SessionDep) -> int:
    """Ask for something that takes twenty seconds."""
    return int(session.execute(text("SELECT 1 FROM pg_sleep(20)")).scalar_one())


@app.get("/plain")
def plain() -> int:
    """Ask nobody, in a thread."""
    return 1


@app.get("/stream")
def stream(session: SessionDep) -> StreamingResponse:
    """Ask for something, then stream without end what has nothing to do with the database."""
    session.execute(text("SELECT 1"))

    def ticks() -> Iterator[str]:
        while True:
            yield "data: tick\n\n"
            time.sleep(0.2)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/nested")
def nested(session: SessionDep) -> int:
    """Hold a connection, and ask for another, as a helper does that opens a session for itself."""
    session.execute(text("SELECT 1 FROM pg_sleep(0.2)"))
    with Session(engine) as other:
        return int(other.execute(text("SELECT 1")).scalar_one())


@app.get("/leak")
def leak() -> None:
    """Open a session, and never close it."""
    session = Session(engine)
    session.execute(text("SELECT 1"))
    kept.append(session)
