"""dishka: a container, an `@inject` on each handler, and a middleware that opens a scope for each request."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dishka import Provider, Scope, make_async_container
from dishka.integrations.fastapi import FromDishka, inject, setup_dishka
from fastapi import FastAPI

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import FIVE, Fifth, Fourth, Second, Service, Session, Third, open_session
from benchmarks.works import PATH, Moment


def app_with(handler: Callable[..., object]) -> FastAPI:
    """Make an app with a container of its own, closed with the app."""
    provider = Provider()
    for kind in FIVE:
        provider.provide(kind, scope=Scope.APP)
    provider.provide(open_session, scope=Scope.REQUEST)
    container = make_async_container(provider)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await container.close()

    app = FastAPI(lifespan=lifespan)
    app.get(PATH)(inject(handler))
    setup_dishka(container, app)
    return app


def one() -> FastAPI:
    """Take one object."""

    async def handler(service: FromDishka[Service]):
        return {"ok": service.name}

    return app_with(handler)


def five() -> FastAPI:
    """Take five objects."""

    async def handler(
        first: FromDishka[Service],
        second: FromDishka[Second],
        third: FromDishka[Third],
        fourth: FromDishka[Fourth],
        fifth: FromDishka[Fifth],
    ):
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app_with(handler)


def session() -> FastAPI:
    """Take a session."""

    async def handler(session: FromDishka[Session]):
        return {"ok": session.service.name}

    return app_with(handler)


DISHKA = Contender("dishka", packages=("dishka",))
DISHKA.does(works.ONE, one)
DISHKA.does(works.FIVE, five)
DISHKA.does(works.FUNCTION, session, closes=Moment.ANSWERED)
DISHKA.does(works.REQUEST, session)

CONTENDERS = [DISHKA]
