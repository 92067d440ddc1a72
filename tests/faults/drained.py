"""An app for rolling restarts: it starts fast, and answers after a moment."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import lifespan, scoped
from tenure.ops import ops_router


@scoped("app")
async def pool() -> AsyncIterator[str]:
    """Be what the app must not close while it serves."""
    yield "pool"
    os.write(1, f"{os.getpid()} pool closed\n".encode())


app = FastAPI(lifespan=lifespan(drain_delay=float(os.environ["DRAIN"]), grace=1))
app.include_router(ops_router())


@app.get("/work")
async def work(_: Annotated[str, Depends(pool)]) -> int:
    """Take a moment, as a query would, and tell which process has answered."""
    await asyncio.sleep(0.02)
    return os.getpid()
