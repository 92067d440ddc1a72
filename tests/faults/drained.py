"""An app for rolling restarts: it starts fast, and answers after a moment."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import lifespan, scoped
from tenure.ops import ops_router


def say(line: str) -> None:
    """Tell the test, with who says it, in one write, as several processes have this output."""
    os.write(1, f"{os.getpid()} {line}\n".encode())


@scoped("app")
async def pool() -> AsyncIterator[str]:
    """Be what the app must not close while it serves; or fail, where the environment says so."""
    say("opened")
    if os.environ.get("FAILS"):
        msg = "no database"
        raise ConnectionError(msg)
    yield "pool"
    say("closed")


app = FastAPI(lifespan=lifespan(drain_delay=float(os.environ["DRAIN"]), grace=1))
app.include_router(ops_router())


@app.get("/work")
async def work(_: Annotated[str, Depends(pool)]) -> int:
    """Take a moment, as a query would, and tell which process has answered."""
    await asyncio.sleep(0.02)
    return os.getpid()
