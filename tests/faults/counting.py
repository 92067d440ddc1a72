"""An app for real workers, who share one count."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import Counter, lifespan

requests = Counter("requests", scope="host")
Requests = Annotated[Counter, Depends(requests)]

app = FastAPI(lifespan=lifespan)


@app.get("/add")
def add(requests: Requests) -> tuple[int, int]:
    """Count in a worker thread, and tell which process did."""
    return requests.add(), os.getpid()


@app.get("/value")
async def value(requests: Requests) -> int:
    """Read the count, in the event loop."""
    return requests.value
