"""The app: ``fastapi dev``, ``uvicorn roster.main:app`` or any other ASGI server runs it."""

from __future__ import annotations

from fastapi import FastAPI

from roster import logs, problems
from roster.embeddings import embeddings
from roster.limits import BodyLimit
from roster.routers import avatars, stats, users
from roster.startup import PlainStartFailure
from tenure import lifespan
from tenure.ops import ops_router

logs.configure()

app = FastAPI(title="roster", summary="A directory of users.", lifespan=lifespan(also=[embeddings]))
app.add_middleware(BodyLimit)
app.add_middleware(PlainStartFailure)
problems.install(app)
app.include_router(stats.router)  # first, for routes are tried in order, and this one is asked for most
app.include_router(users.router)
app.include_router(avatars.router)
app.include_router(ops_router())
