"""An app that starts in the background, and whose model loads until a file is there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import lifespan, scoped
from tenure.ops import ops_router

LOADED = Path(os.environ.get("LOADED", "loaded"))


def loaded() -> str | None:
    """Tell what the test has written, if it has."""
    return LOADED.read_text() if LOADED.exists() else None


@scoped("app")
async def model() -> str:
    """Load for as long as the test wants, and fail if it wants that."""
    while (failure := loaded()) is None:
        await asyncio.sleep(0.05)
    if failure:
        raise RuntimeError(failure)
    return "model"


@scoped("app")
async def search(model: Annotated[str, Depends(model)]) -> str:
    """Search with it."""
    return f"search with {model}"


app = FastAPI(title="slow", lifespan=lifespan(also=[search], start="background"))
app.include_router(ops_router())
