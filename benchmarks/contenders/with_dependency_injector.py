"""Dependency Injector: providers in a container class, and an `@inject` and a marker in `Depends` on each handler."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

from dependency_injector import containers, providers
from dependency_injector.wiring import Closing, Provide, inject
from fastapi import Depends, FastAPI

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import Fifth, Fourth, Second, Service, Session, Third, open_session
from benchmarks.works import PATH, Moment


class Container(containers.DeclarativeContainer):
    """What is declared."""

    service = providers.Singleton(Service)
    second = providers.Singleton(Second)
    third = providers.Singleton(Third)
    fourth = providers.Singleton(Fourth)
    fifth = providers.Singleton(Fifth)
    session = providers.Resource(open_session, service)


@inject
async def take_one(service: Annotated[Service, Depends(Provide[Container.service])]):
    """Take one object."""
    return {"ok": service.name}


@inject
async def take_five(
    first: Annotated[Service, Depends(Provide[Container.service])],
    second: Annotated[Second, Depends(Provide[Container.second])],
    third: Annotated[Third, Depends(Provide[Container.third])],
    fourth: Annotated[Fourth, Depends(Provide[Container.fourth])],
    fifth: Annotated[Fifth, Depends(Provide[Container.fifth])],
):
    """Take five objects."""
    return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}


@inject
async def take_session(session: Annotated[Session, Depends(Closing[Provide[Container.session]])]):
    """Take a session."""
    return {"ok": session.service.name}


CONTAINER = Container()
CONTAINER.wire(modules=[sys.modules[__name__]])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Drop the container's values with the app."""
    yield
    CONTAINER.reset_singletons()


def app_with(handler: Callable[..., object]) -> FastAPI:
    """Make an app; they share the container, as a module can be wired to one only."""
    app = FastAPI(lifespan=lifespan)
    app.get(PATH)(handler)
    return app


CLOSES_EARLY = "it has no request scope: a `Resource` that `Closing` ends"
DEPENDENCY_INJECTOR = Contender("Dependency Injector", packages=("dependency-injector",))
DEPENDENCY_INJECTOR.does(works.ONE, partial(app_with, take_one))
DEPENDENCY_INJECTOR.does(works.FIVE, partial(app_with, take_five))
for each in (works.FUNCTION, works.REQUEST):
    DEPENDENCY_INJECTOR.does(each, partial(app_with, take_session), closes=Moment.HANDLER, note=CLOSES_EARLY)

CONTENDERS = [DEPENDENCY_INJECTOR]
