"""An app to be run by a server, and scraped: it counts, lends connections, and has metrics of its own."""

import os
from typing import Annotated

import prometheus_client
from fastapi import Depends, FastAPI

from tenure import Counter, lifespan
from tenure.ops import metrics_router
from tenure.pools.asyncpg import Connection, pool

database = pool(os.environ["DSN"], max_size=2, name="database")
in_all = Counter("in all", scope="host")
here = Counter("here", scope="app")
jobs = prometheus_client.Counter("jobs", "Jobs that were done.", ["worker"])
process = prometheus_client.Gauge("own_pid", "Which process this is.")

app = FastAPI(title="scraped", lifespan=lifespan)
app.include_router(metrics_router())


@app.post("/jobs")
async def do(
    connection: Annotated[Connection, Depends(database.connection)],
    in_all: Annotated[Counter, Depends(in_all)],
    here: Annotated[Counter, Depends(here)],
) -> int:
    """Do a job."""
    process.set(os.getpid())
    await connection.fetchval("SELECT 1")
    jobs.labels("batch").inc()
    here.add()
    in_all.add()
    return os.getpid()
