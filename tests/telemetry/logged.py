"""An app to be run by uvicorn, whose access log has no probes."""

import logging

from fastapi import FastAPI

from tenure import lifespan
from tenure.ops import ProbeFilter, ops_router

app = FastAPI(lifespan=lifespan)
app.include_router(ops_router(prefix="/internal"))
logging.getLogger("uvicorn.access").addFilter(ProbeFilter(prefix="/internal"))


@app.get("/{name}")
async def named(name: str) -> str:
    """Answer."""
    return name
