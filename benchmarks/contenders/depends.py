"""Routes that take everything by FastAPI's own `Depends`: the same for FastAPI alone and for tenure."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, WebSocket, params

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import Fifth, Fourth, Second, Service, Session, Third
from benchmarks.works import PATH

Answer = dict[str, object]
Name = Annotated[str, Header(alias="x-name")]
Dependency = Callable[..., Any]


class Tenant:
    """What is made of a session and a header."""

    __slots__ = ("name", "session")

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name


def answer(session: Session, tenant: Tenant) -> Answer:
    """Answer as all do, provided that there was one session for both."""
    return {"ok": session.service.name if session is tenant.session else "two sessions"}


@dataclass
class Dependencies:
    """
    What the routes are declared with.

    Attributes:
        app: Makes an app without routes.
        services: The five app-scoped dependencies.
        function: A session that is closed before the answer.
        request: A session that is closed after it.
    """

    app: Callable[[], FastAPI]
    services: Sequence[Dependency]
    function: params.Depends
    request: params.Depends

    def add_route(self, target: FastAPI | APIRouter) -> None:
        """Add a route that takes one object."""

        @target.get(PATH)
        async def handler(service: Annotated[Service, Depends(self.services[0])]):
            return {"ok": service.name}

    def one(self) -> FastAPI:
        """Take one object."""
        app = self.app()
        self.add_route(app)
        return app

    def included(self) -> FastAPI:
        """Take one object behind `include_router`."""
        app, router = self.app(), APIRouter()
        self.add_route(router)
        app.include_router(router, prefix="/included")
        return app

    def mounted(self) -> FastAPI:
        """Take one object in a mounted app."""
        app, inner = self.app(), FastAPI()
        self.add_route(inner)
        app.mount("/mounted", inner)
        return app

    def five(self) -> FastAPI:
        """Take five objects."""
        app = self.app()
        services = self.services

        @app.get(PATH)
        async def handler(
            first: Annotated[Service, Depends(services[0])],
            second: Annotated[Second, Depends(services[1])],
            third: Annotated[Third, Depends(services[2])],
            fourth: Annotated[Fourth, Depends(services[3])],
            fifth: Annotated[Fifth, Depends(services[4])],
        ):
            return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

        return app

    def function_session(self) -> FastAPI:
        """Take a session that is closed before the answer."""
        return self._session(self.function)

    def request_session(self) -> FastAPI:
        """Take a session that is closed after the answer."""
        return self._session(self.request)

    def _session(self, dependency: params.Depends) -> FastAPI:
        app = self.app()

        @app.get(PATH)
        async def handler(session: Annotated[Session, dependency]):
            return {"ok": session.service.name}

        return app

    def shared(self) -> FastAPI:
        """Take a session, and a dependency that takes it as well, and a header."""
        app = self.app()

        async def tenant(session: Annotated[Session, self.function], name: Name) -> Tenant:
            return Tenant(session, name)

        @app.get(PATH)
        async def handler(
            session: Annotated[Session, self.function],
            tenant: Annotated[Tenant, Depends(tenant, scope="function")],
        ):
            return answer(session, tenant)

        return app

    def websocket(self) -> FastAPI:
        """Take one object on a websocket."""
        app = self.app()

        @app.websocket(PATH)
        async def handler(websocket: WebSocket, service: Annotated[Service, Depends(self.services[0])]) -> None:
            await websocket.accept()
            await websocket.send_json({"ok": service.name})
            await websocket.close()

        return app

    def sync(self) -> FastAPI:
        """Take one object in the threadpool."""
        app = self.app()

        @app.get(PATH)
        def handler(service: Annotated[Service, Depends(self.services[0])]):
            return {"ok": service.name}

        return app


BUILDS: dict[works.Work, Callable[[Dependencies], FastAPI]] = {
    works.ONE: Dependencies.one,
    works.FIVE: Dependencies.five,
    works.FUNCTION: Dependencies.function_session,
    works.REQUEST: Dependencies.request_session,
    works.SHARED: Dependencies.shared,
    works.INCLUDED: Dependencies.included,
    works.MOUNTED: Dependencies.mounted,
    works.WEBSOCKET: Dependencies.websocket,
    works.SYNC: Dependencies.sync,
}


def enter(contender: Contender, declare: Callable[[], Dependencies]) -> Contender:
    """Enter a contender for every work, each with dependencies of its own."""
    for work, build in BUILDS.items():
        contender.does(work, partial(_build, build, declare))
    return contender


def _build(build: Callable[[Dependencies], FastAPI], declare: Callable[[], Dependencies]) -> FastAPI:
    return build(declare())


def enter_overridden(contender: Contender) -> None:
    """Enter a contender for what an override costs."""
    for work, plain in works.OVERRIDDEN.items():
        contender.does(work, contender.entries[plain].build)


def session_on(service: Dependency) -> Callable[..., AsyncIterator[Session]]:
    """Give the dependency that opens a session on what another one gives."""

    async def session(service: Annotated[Service, Depends(service)]) -> AsyncIterator[Session]:
        service.sessions += 1
        try:
            yield Session(service)
        finally:
            service.sessions -= 1

    return session
