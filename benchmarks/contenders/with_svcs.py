"""svcs: a registry that the lifespan fills, and a container for each request that handlers ask."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import svcs
from fastapi import Depends, FastAPI, params

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import FIVE, Fifth, Fourth, Second, Service, Session, Third
from benchmarks.works import PATH


def new_app() -> FastAPI:
    """Make an app with a registry of its own, closed with the app."""

    async def open_for(container: svcs.Container) -> AsyncIterator[Session]:
        service = container.get(Service)
        service.sessions += 1
        try:
            yield Session(service)
        finally:
            service.sessions -= 1

    @svcs.fastapi.lifespan
    async def lifespan(_: FastAPI, registry: svcs.Registry) -> AsyncGenerator[dict[str, object] | None]:
        for kind in FIVE:
            registry.register_value(kind, kind())
        registry.register_factory(Session, open_for)
        yield {}

    return FastAPI(lifespan=lifespan)


def one() -> FastAPI:
    """Take one object."""
    app = new_app()

    @app.get(PATH)
    async def handler(services: svcs.fastapi.DepContainer):
        return {"ok": services.get(Service).name}

    return app


def five() -> FastAPI:
    """Take five objects."""
    app = new_app()

    @app.get(PATH)
    async def handler(services: svcs.fastapi.DepContainer):
        first, second, third, fourth, fifth = services.get(Service, Second, Third, Fourth, Fifth)
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app


def session(container: params.Depends) -> FastAPI:
    """Take a session."""
    app = new_app()

    @app.get(PATH)
    async def handler(services: Annotated[svcs.Container, container]):
        session = await services.aget(Session)
        return {"ok": session.service.name}

    return app


SVCS = Contender("svcs", packages=("svcs",))
SVCS.does(works.ONE, one)
SVCS.does(works.FIVE, five)
SVCS.does(works.FUNCTION, lambda: session(Depends(svcs.fastapi.container, scope="function")))
SVCS.does(works.REQUEST, lambda: session(Depends(svcs.fastapi.container)))

CONTENDERS = [SVCS]
