"""Apps built from designs."""

from __future__ import annotations

from contextlib import suppress
from inspect import Parameter, Signature
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    Path,
    Query,
    Request,
    Response,
    Security,
    WebSocket,
)
from fastapi.requests import HTTPConnection
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader, SecurityScopes
from pydantic import BaseModel

from tenure import lifespan, scoped
from tests.core.generated_dependencies import Handler, Maker, Record, signed, written
from tests.core.generated_designs import HAS_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.core.generated_dependencies import Call
    from tests.core.generated_designs import Change, Declaration, Design, Route, Taking

if HAS_EVENTS:
    from fastapi.sse import EventSourceResponse


class Item(BaseModel):
    """What requests have in their body."""

    size: int


DATA: dict[str, Any] = {
    "header": Annotated[int, Header(alias="x-number")],
    "query": Annotated[int, Query()],
    "cookie": Annotated[int, Cookie()],
    "path": Annotated[int, Path()],
    "body": Annotated[Item, Body()],
    "other body": Annotated[Item | None, Body()],
    "request": Request,
    "connection": HTTPConnection,
    "response": Response,
    "tasks": BackgroundTasks,
    "scopes": SecurityScopes,
    "default": int,
}
"""What a parameter for data of a request is annotated with."""


class Built:
    """
    A design as an app.

    Attributes:
        app: The outer app.
        apps: It, and all that are mounted in it.
        paths: Where each route is, but for its last part.
        record: What happens at start and stop.
    """

    def __init__(self, design: Design) -> None:
        self._design = design
        self.record = Record("app")
        self._calls: list[Callable[[], Call]] = []
        for number, declaration in enumerate(design.declarations):
            self._calls.append(self._dependency(number, declaration))
        self.app = FastAPI(lifespan=lifespan, dependencies=self._marks(design.dependencies))
        self.apps = [self.app]
        if design.handles_errors:
            self.app.add_exception_handler(LookupError, _answer_error)
        self.paths: list[str] = []
        for _ in design.routes[: len(design.routes) - design.last_is_late]:
            self.add_route()
        self._unrelated: Call = lambda: None

    def add_route(self) -> None:
        """Add the next route."""
        number = len(self.paths)
        self.paths.append(self._add(f"/{number}", self._design.routes[number]))

    def change(self, change: Change) -> None:
        """Change overrides."""
        overrides = self.apps[change.app].dependency_overrides
        overridden = self._unrelated if change.overridden is None else self._calls[change.overridden]()
        if change.override is not None:
            overrides[overridden] = self._calls[change.override]()
        elif change.overridden is None and overridden not in overrides:
            overrides[overridden] = overridden
        else:
            with suppress(KeyError):
                del overrides[overridden]

    def _dependency(self, number: int, declaration: Declaration) -> Callable[[], Call]:
        if declaration.written == "security scheme":
            scheme = APIKeyHeader(name="x-number", scheme_name=f"n{number}", auto_error=bool(number % 2))
            return lambda: scheme
        factory = written(
            declaration.written, Maker(number, declaration), self._signature(declaration.takes, declaration.data)
        )
        if declaration.scope is None:
            return factory
        scope: Any = declaration.scope
        resource = scoped(scope, name=f"n{number}")(factory())
        return lambda: resource

    def _signature(self, takes: Sequence[Taking], data: Sequence[str], *more: Parameter) -> Signature:
        taken = [self._parameter(taking) for taking in takes]
        return Signature([*taken, *(_data_parameter(kind) for kind in data), *more])

    def _parameter(self, taking: Taking) -> Parameter:
        name, mark = f"n{taking.number}", self._mark(taking)
        if taking.annotated:
            return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[list[Any], mark])
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=list[Any], default=mark)

    def _marks(self, takings: Sequence[Taking]) -> list[Any]:
        return [self._mark(taking) for taking in takings]

    def _mark(self, taking: Taking) -> Any:
        call, scope = self._calls[taking.number](), taking.scope
        if taking.security:
            return Security(call, scopes=list(taking.security), use_cache=taking.use_cache)
        limit: dict[str, Any] = {"max_concurrency": 50} if taking.limited else {}
        return Depends(call, use_cache=taking.use_cache, scope=scope, **limit)  # type: ignore[arg-type]

    def _add(self, path: str, route: Route) -> str:
        """Add a route below its layers; the inner ones first, as a router is read when it is included."""
        takers: list[Any] = [self.app]
        for layer in route.layers:
            marks = self._marks(layer.dependencies)
            taker: Any = FastAPI(dependencies=marks) if layer.kind == "mounted app" else APIRouter(dependencies=marks)
            takers.append(taker)
        self.apps += [taker for taker in takers[1:] if isinstance(taker, FastAPI)]
        if len(takers) == 1:
            self._add_route(self.app, f"{path}/{{path}}", route)
            return path
        self._add_route(takers[-1], "/{path}", route)
        for (outer, inner), layer in reversed(list(zip(pairwise(takers), route.layers, strict=True))):
            if layer.kind.startswith("mounted"):
                outer.mount(path, inner)
            else:
                outer.include_router(inner, prefix=path)
        return path * len(route.layers)

    def _add_route(self, taker: Any, path: str, route: Route) -> None:
        handler, marks = Handler(route.handler), self._marks(route.dependencies)
        if self._design.is_websocket:
            websocket = Parameter("websocket", Parameter.KEYWORD_ONLY, annotation=WebSocket)
            signature = self._signature(route.takes, route.data, websocket)
            taker.add_api_websocket_route(path, signed(handler.socket(), signature), dependencies=marks)
            return
        endpoint = signed(handler.endpoint(is_sync=route.is_sync), self._signature(route.takes, route.data))
        more: dict[str, Any] = {"response_class": EventSourceResponse} if route.handler == "gives events" else {}
        taker.add_api_route(path, endpoint, methods=["POST"], dependencies=marks, **more)


async def _answer_error(_: HTTPConnection, error: Exception) -> Response:
    return PlainTextResponse(f"handled: {error}", 503)


def _data_parameter(kind: str) -> Parameter:
    name = kind.replace(" ", "_")
    default = {"default": 7, "other body": None}.get(kind, Parameter.empty)
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=DATA[kind], default=default)
