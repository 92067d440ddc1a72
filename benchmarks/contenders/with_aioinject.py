"""aioinject: a container, an `@inject` on each handler, and a middleware that opens a context for each request."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aioinject import Container, Injected, Scoped, Singleton
from aioinject.ext.fastapi import AioInjectMiddleware, inject
from fastapi import FastAPI

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import FIVE, Fifth, Fourth, Second, Service, Session, Third, open_session
from benchmarks.works import PATH, Moment


def app_with(handler: Callable[..., object]) -> FastAPI:
    """Make an app with a container of its own, closed with the app."""
    container = Container()
    container.register(*(Singleton(kind) for kind in FIVE), Scoped(asynccontextmanager(open_session)))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with container:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(AioInjectMiddleware, container=container)
    app.get(PATH)(inject(handler))
    return app


def one() -> FastAPI:
    """Take one object."""

    async def handler(service: Injected[Service]):
        return {"ok": service.name}

    return app_with(handler)


def five() -> FastAPI:
    """Take five objects."""

    async def handler(
        first: Injected[Service],
        second: Injected[Second],
        third: Injected[Third],
        fourth: Injected[Fourth],
        fifth: Injected[Fifth],
    ):
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app_with(handler)


def session() -> FastAPI:
    """Take a session."""

    async def handler(session: Injected[Session]):
        return {"ok": session.service.name}

    return app_with(handler)


AIOINJECT = Contender("aioinject", packages=("aioinject",))
AIOINJECT.does(works.ONE, one)
AIOINJECT.does(works.FIVE, five)
AIOINJECT.does(works.FUNCTION, session, closes=Moment.ANSWERED)
AIOINJECT.does(works.REQUEST, session)

CONTENDERS = [AIOINJECT]
