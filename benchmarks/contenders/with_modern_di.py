"""modern-di: providers in a group, and a child container for each request, by way of `Depends`."""

from fastapi import FastAPI
from modern_di import Container, Group, Scope, providers
from modern_di_fastapi import FromDI, setup_di

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import Fifth, Fourth, Second, Service, Session, Third
from benchmarks.works import PATH, Moment


def begin(service: Service) -> Session:
    """Open a session."""
    service.sessions += 1
    return Session(service)


async def end(session: Session) -> None:
    """Close it."""
    session.service.sessions -= 1


class Dependencies(Group):
    """What is declared; each app has a container of its own."""

    service = providers.Factory(Service, scope=Scope.APP, cache=True)
    second = providers.Factory(Second, scope=Scope.APP, cache=True)
    third = providers.Factory(Third, scope=Scope.APP, cache=True)
    fourth = providers.Factory(Fourth, scope=Scope.APP, cache=True)
    fifth = providers.Factory(Fifth, scope=Scope.APP, cache=True)
    session = providers.Factory(begin, scope=Scope.REQUEST, cache=providers.CacheSettings(finalizer=end))


def new_app() -> FastAPI:
    """Make an app with a container of its own, closed with the app."""
    app = FastAPI()
    container = Container(groups=[Dependencies])
    setup_di(app, container)
    container.validate()
    return app


def one() -> FastAPI:
    """Take one object."""
    app = new_app()

    @app.get(PATH)
    async def handler(service: Service = FromDI(Dependencies.service)):
        return {"ok": service.name}

    return app


def five() -> FastAPI:
    """Take five objects."""
    app = new_app()

    @app.get(PATH)
    async def handler(
        first: Service = FromDI(Dependencies.service),
        second: Second = FromDI(Dependencies.second),
        third: Third = FromDI(Dependencies.third),
        fourth: Fourth = FromDI(Dependencies.fourth),
        fifth: Fifth = FromDI(Dependencies.fifth),
    ):
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app


def session() -> FastAPI:
    """Take a session."""
    app = new_app()

    @app.get(PATH)
    async def handler(session: Session = FromDI(Dependencies.session)):
        return {"ok": session.service.name}

    return app


NO_GENERATORS = "it has no generators: a sync creator and an async finalizer"
MODERN_DI = Contender("modern-di", packages=("modern-di", "modern-di-fastapi"))
MODERN_DI.does(works.ONE, one)
MODERN_DI.does(works.FIVE, five)
MODERN_DI.does(works.FUNCTION, session, closes=Moment.ANSWERED, note=NO_GENERATORS)
MODERN_DI.does(works.REQUEST, session, note=NO_GENERATORS)

CONTENDERS = [MODERN_DI]
