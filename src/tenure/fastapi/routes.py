"""The routes of an app: its own, those of included routers and of mounted apps, at any depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fastapi.routing
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import Host, Mount

from tenure.fastapi.inputs import Dependency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from starlette.routing import BaseRoute


@dataclass(frozen=True)
class Route:
    """A route, by what a reader calls it and what it takes itself."""

    label: str
    is_websocket: bool
    dependencies: tuple[Dependency, ...]


@dataclass
class Routes:
    """All routes of an app, and the apps that are mounted in it."""

    routes: list[Route]
    mounted: list[FastAPI]


def routes_of(app: FastAPI) -> Routes:
    """Walk an app; one that is mounted twice is walked for each mount, and listed once."""
    found = Routes([], [])
    _walk(app.routes, "", found, [app])
    return found


def _walk(routes: Sequence[BaseRoute], prefix: str, found: Routes, outer: list[FastAPI]) -> None:
    for context in _flat(routes):
        # Included routers stand in newer versions as they are, with their routes in an effective form beside them.
        route: Any = getattr(context, "_effective_route", context)
        route = getattr(route, "starlette_route", None) or route
        original: Any = getattr(context, "original_route", route)
        if isinstance(original, APIRoute):
            methods = ",".join(sorted(route.methods or ()))
            found.routes.append(_route(f"{methods} {prefix}{route.path}", route, is_websocket=False))
        elif isinstance(original, APIWebSocketRoute):
            found.routes.append(_route(f"WEBSOCKET {prefix}{route.path}", route, is_websocket=True))
        elif isinstance(original, Mount | Host):
            _walk_mounted(route, prefix, found, outer)
        elif getattr(route, "dependant", None) is not None:  # a page group of `app.frontend`
            found.routes.append(_route(f"GET {prefix}{getattr(route, 'path', '/')}", route, is_websocket=False))


def _walk_mounted(route: Mount | Host, prefix: str, found: Routes, outer: list[FastAPI]) -> None:
    app: Any = route.app
    while not isinstance(app, FastAPI) and hasattr(app, "app"):  # middleware around it
        app = app.app
    if app in outer:
        return
    if isinstance(app, FastAPI) and app not in found.mounted:
        found.mounted.append(app)
    below = [*outer, app] if isinstance(app, FastAPI) else outer
    _walk(getattr(app, "routes", None) or [], f"{prefix}{getattr(route, 'path', '')}", found, below)


def _flat(routes: Sequence[BaseRoute]) -> Iterable[Any]:
    """Give routes with those of included routers in their place; before FastAPI 0.137 they were copied there."""
    contexts = getattr(fastapi.routing, "iter_route_contexts", None)
    if contexts is not None:
        return contexts(routes)  # type: ignore[no-any-return]
    return _included(routes)


def _included(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    for route in routes:
        effective = getattr(route, "effective_route_contexts", None)  # 0.137.0 and 0.137.1 had no public walk
        if effective is None:
            yield route
        else:
            yield from effective()


def _route(label: str, route: Any, *, is_websocket: bool) -> Route:  # noqa: ANN401 (differs by version)
    dependencies = tuple(
        Dependency(taken.name or "", taken.call, getattr(taken, "scope", None), taken.use_cache)
        for taken in route.dependant.dependencies
    )
    return Route(label, is_websocket, dependencies)
