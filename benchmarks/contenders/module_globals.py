"""The baseline: module globals, and sessions that are opened by hand."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, WebSocket

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.depends import Name, Tenant, answer
from benchmarks.subject import FIVE, Service, open_session
from benchmarks.works import PATH, Moment

session_on = asynccontextmanager(open_session)


def add_route(target: FastAPI | APIRouter) -> None:
    """Add a route on a global."""
    service = Service()

    @target.get(PATH)
    async def handler():
        return {"ok": service.name}


def one() -> FastAPI:
    """Use a global."""
    app = FastAPI()
    add_route(app)
    return app


def included() -> FastAPI:
    """Use a global behind `include_router`."""
    app, router = FastAPI(), APIRouter()
    add_route(router)
    app.include_router(router, prefix="/included")
    return app


def mounted() -> FastAPI:
    """Use a global in a mounted app."""
    app, inner = FastAPI(), FastAPI()
    add_route(inner)
    app.mount("/mounted", inner)
    return app


def five() -> FastAPI:
    """Use five globals."""
    app = FastAPI()
    first, second, third, fourth, fifth = (each() for each in FIVE)

    @app.get(PATH)
    async def handler():
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app


def session() -> FastAPI:
    """Open a session around the handler's work."""
    app = FastAPI()
    service = Service()

    @app.get(PATH)
    async def handler():
        async with session_on(service) as session:
            return {"ok": session.service.name}

    return app


def shared() -> FastAPI:
    """Open a session for the handler and for what it makes of a header."""
    app = FastAPI()
    service = Service()

    async def name_of(name: Name) -> str:
        return name

    @app.get(PATH)
    async def handler(name: Annotated[str, Depends(name_of)]):
        async with session_on(service) as session:
            return answer(session, Tenant(session, name))

    return app


def websocket() -> FastAPI:
    """Use a global on a websocket."""
    app = FastAPI()
    service = Service()

    @app.websocket(PATH)
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json({"ok": service.name})
        await websocket.close()

    return app


def sync() -> FastAPI:
    """Use a global in the threadpool."""
    app = FastAPI()
    service = Service()

    @app.get(PATH)
    def handler():
        return {"ok": service.name}

    return app


def declare(name: str) -> Contender:
    """Give the baseline under a name: it is measured twice, and how far the two are apart is noise."""
    contender = Contender(name, packages=("fastapi", "starlette"))
    by_hand: dict[works.Work, Callable[[], FastAPI]] = {
        works.FUNCTION: session,
        works.REQUEST: session,
        works.SHARED: shared,
    }
    for work, build in by_hand.items():
        contender.does(work, build, closes=Moment.HANDLER)
    contender.does(works.ONE, one)
    contender.does(works.FIVE, five)
    contender.does(works.INCLUDED, included)
    contender.does(works.MOUNTED, mounted)
    contender.does(works.WEBSOCKET, websocket)
    contender.does(works.SYNC, sync)
    return contender


CONTENDERS = [declare("module globals"), declare("module globals, again")]
