"""An app for a real server, whose resources close in the ways that the environment names."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import lifespan, scoped

HOW = os.environ["CLOSES"]


@scoped("app")
async def below() -> AsyncIterator[str]:
    """Close well, and say so."""
    yield "below"
    print("below closed", flush=True)


@scoped("app", close_timeout=0.5)
async def culprit(below: Annotated[str, Depends(below)]) -> AsyncIterator[str]:
    """Close as the environment says."""
    yield below
    if HOW == "raises":
        msg = "socket is gone"
        raise OSError(msg)
    while HOW != "well":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if HOW != "swallows":
                raise
    print("culprit closed", flush=True)


@scoped("app")
async def above(culprit: Annotated[str, Depends(culprit)]) -> AsyncIterator[str]:
    """Close well, and say so."""
    yield culprit
    print("above closed", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def index(above: Annotated[str, Depends(above)]) -> str:
    """Answer with what is below all."""
    return above
