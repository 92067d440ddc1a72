"""
The specification's program with the types of its answers, and nothing else changed.

With them FastAPI serialises an answer in one step, which is no merit of how its parts are shared: this program shows
how much of the difference to roster comes from there.
"""

from typing import Any

import specification
from fastapi import FastAPI
from specification import Conn, State

app = FastAPI(lifespan=specification.lifespan)


@app.get("/users")
async def list_users(conn: Conn) -> list[dict[str, Any]]:
    """Answer all users."""
    return await specification.list_users(conn)


@app.get("/stats")
async def stats(state: State) -> dict[str, int]:
    """Count this request, and answer the count."""
    return await specification.stats(state)
