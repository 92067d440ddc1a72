"""that-depends: providers in a container class, which are themselves what `Depends` takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from that_depends import BaseContainer, ContextScopes, providers
from that_depends.integrations.fastapi import create_fastapi_route_class
from that_depends.providers import DIContextMiddleware

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import Fifth, Fourth, Second, Service, Session, Third, open_session
from benchmarks.works import PATH


class Container(BaseContainer):
    """One for all apps of this process: that-depends keeps its values in the class."""

    default_scope = ContextScopes.REQUEST
    service = providers.Singleton(Service)
    second = providers.Singleton(Second)
    third = providers.Singleton(Third)
    fourth = providers.Singleton(Fourth)
    fifth = providers.Singleton(Fifth)
    session = providers.ContextResource(open_session, service.cast)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the container with the app."""
    yield
    await Container.tear_down()


def one() -> FastAPI:
    """Take one object."""
    app = FastAPI(lifespan=lifespan)

    @app.get(PATH)
    async def handler(service: Annotated[Service, Depends(Container.service)]):
        return {"ok": service.name}

    return app


def five() -> FastAPI:
    """Take five objects."""
    app = FastAPI(lifespan=lifespan)

    @app.get(PATH)
    async def handler(
        first: Annotated[Service, Depends(Container.service)],
        second: Annotated[Second, Depends(Container.second)],
        third: Annotated[Third, Depends(Container.third)],
        fourth: Annotated[Fourth, Depends(Container.fourth)],
        fifth: Annotated[Fifth, Depends(Container.fifth)],
    ):
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app


async def take_session(session: Annotated[Session, Depends(Container.session)]):
    """Take a session."""
    return {"ok": session.service.name}


def closed_by_route() -> FastAPI:
    """Open the session's context in its route class, which closes it before the answer."""
    app = FastAPI(lifespan=lifespan)
    app.router.route_class = create_fastapi_route_class(Container.session, scope=ContextScopes.REQUEST)
    app.get(PATH)(take_session)
    return app


def closed_by_middleware() -> FastAPI:
    """Open the session's context in its middleware, which closes it after the answer."""
    app = FastAPI(lifespan=lifespan)
    app.get(PATH)(take_session)
    app.add_middleware(DIContextMiddleware, Container.session, scope=ContextScopes.REQUEST)
    return app


THAT_DEPENDS = Contender("that-depends", packages=("that-depends",))
THAT_DEPENDS.does(works.ONE, one)
THAT_DEPENDS.does(works.FIVE, five)
THAT_DEPENDS.does(works.FUNCTION, closed_by_route, note="with its route class")
THAT_DEPENDS.does(works.REQUEST, closed_by_middleware, note="with its middleware")

CONTENDERS = [THAT_DEPENDS]
