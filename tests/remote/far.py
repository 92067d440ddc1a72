"""An object that lives in a Ray cluster, and an app whose workers call it."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import lifespan, scoped
from tenure.remote import Remote
from tests.remote.things import Thing

DEPLOYMENT = "far"

far = scoped("cluster", name="far", start_timeout=40)(Thing)
TheFar = Annotated[Remote[Thing], Depends(far)]

app = FastAPI(lifespan=lifespan(deployment=DEPLOYMENT))


@app.get("/processes")
async def processes(far: TheFar) -> tuple[int, int]:
    """Tell the worker's process and the object's."""
    return os.getpid(), await far(Thing.process)


@app.get("/count")
async def count(far: TheFar) -> int:
    """Count."""
    return await far(Thing.count)


@app.get("/hold")
async def hold(far: TheFar, name: str) -> int:
    """Hold a thread of the object's."""
    return await far(Thing.hold, name)
