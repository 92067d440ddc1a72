"""
The specification's program, as its page writes it: what it does not do well is what is compared with.

It alone is left so on purpose: module globals, a plain function that hands out the state, no types of answers.
"""

import os
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI

DSN = os.environ["DATABASE_URL"]


class AppState:
    """What all requests of this process share."""

    def __init__(self) -> None:
        self.request_count = 0


pool: asyncpg.Pool | None = None
model: Any = None
state = AppState()


def load_model(path: str) -> Any:  # noqa: ANN401 (as the page has it)
    """Load the model."""
    with open(path, "rb") as file:  # noqa: PTH123 (as the page has it)
        return pickle.load(file)  # noqa: S301 (likewise; the benchmark has made the file)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 (FastAPI gives it)
    """Make what is shared, and close it."""
    global pool, model  # noqa: PLW0603 (as the page has it)
    pool = await asyncpg.create_pool(DSN, min_size=5)
    model = load_model("model.pkl")
    yield
    await pool.close()


app = FastAPI(lifespan=lifespan)


async def get_conn() -> AsyncIterator[asyncpg.Connection]:
    """Borrow a connection for a request."""
    async with pool.acquire() as conn:
        yield conn


def get_app_state() -> AppState:
    """Hand out the shared state."""
    return state


Conn = Annotated[asyncpg.Connection, Depends(get_conn)]
State = Annotated[AppState, Depends(get_app_state)]


@app.get("/users")
async def list_users(conn: Conn):  # noqa: ANN201 (a type would change how FastAPI serialises, and the page has none)
    """Answer all users."""
    rows = await conn.fetch("SELECT id, username FROM users")
    return [dict(row) for row in rows]


@app.get("/stats")
async def stats(state: State):  # noqa: ANN201 (likewise)
    """Count this request, and answer the count."""
    state.request_count += 1
    return {"total_requests": state.request_count}
