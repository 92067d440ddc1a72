"""wireup: as its quick start has it, and with the route class that its documentation recommends for speed."""

from collections.abc import Callable
from functools import partial

import wireup
import wireup.integration.fastapi
from fastapi import FastAPI
from fastapi.routing import APIRoute
from wireup import Injected, injectable
from wireup.integration.fastapi import WireupRoute

from benchmarks import works
from benchmarks.contenders.contender import Contender
from benchmarks.subject import FIVE, Fifth, Fourth, Second, Service, Session, Third, open_session
from benchmarks.works import PATH, Moment

INJECTABLES = [*(injectable(kind) for kind in FIVE), injectable(open_session, lifetime="scoped")]


def app_with(handler: Callable[..., object], route_class: type[APIRoute], *, middleware_mode: bool = False) -> FastAPI:
    """Make an app with a container of its own, closed with the app."""
    app = FastAPI()
    app.router.route_class = route_class
    app.get(PATH)(handler)
    container = wireup.create_async_container(injectables=INJECTABLES)
    wireup.integration.fastapi.setup(container, app, middleware_mode=middleware_mode)
    return app


def one(route_class: type[APIRoute]) -> FastAPI:
    """Take one object."""

    async def handler(service: Injected[Service]):
        return {"ok": service.name}

    return app_with(handler, route_class)


def five(route_class: type[APIRoute]) -> FastAPI:
    """Take five objects."""

    async def handler(
        first: Injected[Service],
        second: Injected[Second],
        third: Injected[Third],
        fourth: Injected[Fourth],
        fifth: Injected[Fifth],
    ):
        return {"ok": first.name + second.name + third.name + fourth.name + fifth.name}

    return app_with(handler, route_class)


def session(route_class: type[APIRoute], *, middleware_mode: bool = False) -> FastAPI:
    """Take a session; only with `middleware_mode` does wireup keep it beyond the handler."""

    async def handler(session: Injected[Session]):
        return {"ok": session.service.name}

    return app_with(handler, route_class, middleware_mode=middleware_mode)


def declare(name: str, route_class: type[APIRoute]) -> Contender:
    """Enter wireup with a route class."""
    contender = Contender(name, packages=("wireup",))
    contender.does(works.ONE, partial(one, route_class))
    contender.does(works.FIVE, partial(five, route_class))
    contender.does(works.FUNCTION, partial(session, route_class), closes=Moment.HANDLER)
    contender.does(
        works.REQUEST,
        partial(session, route_class, middleware_mode=True),
        note="with `middleware_mode=True`; else it closes when the handler returns",
    )
    return contender


CONTENDERS = [declare("wireup, quick start", APIRoute), declare("wireup + WireupRoute", WireupRoute)]
