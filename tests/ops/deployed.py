"""An app to be run by a server: it tells of its workers, and forks a child when it is asked to."""

import os
import time

from fastapi import FastAPI

from tenure import lifespan
from tenure.ops import ops_router

app = FastAPI(title="deployed", lifespan=lifespan)
app.include_router(ops_router(details="always"))


@app.post("/fork")
def fork() -> dict[str, int]:
    """Fork a child that outlives its parent, as a process pool's may."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return {"worker": os.getpid(), "child": child}
