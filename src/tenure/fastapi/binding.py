"""Binding: where an app has started, its values are constants, and need not be solved again for each request."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import fastapi.routing
from fastapi.dependencies import utils

from tenure.belonging import STATE, running_app
from tenure.errors import DeclarationError
from tenure.fastapi.bound import BoundRoute
from tenure.fastapi.solver import REPLACED, known_solver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from tenure.fastapi.bound import TenantOf
    from tenure.fastapi.solver import Solver
    from tenure.lifetimes import Lifetime

logger = logging.getLogger("tenure")
routing: Any = fastapi.routing

SETTING = "TENURE_BINDING"
OFF = "binding is off: %s; everything works, at FastAPI's own speed"
KEPT_ROUTES = 10_000
"""How many routes are kept bound; an app that goes on adding routes must not grow by those it has replaced."""


class Binding:
    """The bound routes of one running app. Routes are bound when they are first asked for, so late ones are too."""

    def __init__(self, solver: Solver, lifetime: Lifetime, tenant_of: TenantOf) -> None:
        self.solver = solver
        self._lifetime = lifetime
        self._tenant_of = tenant_of
        self._routes: dict[int, BoundRoute] = {}

    def route(self, dependant: Any, provider: Any) -> BoundRoute | None:  # noqa: ANN401 (FastAPI's own)
        """Give a route's bound form under the overrides that hold now, if it has one."""
        if not self._lifetime.is_steady:
            return None
        overrides = provider.dependency_overrides if provider else None
        route = self._routes.get(id(dependant))
        if route is None or not route.fits(overrides):
            if len(self._routes) >= KEPT_ROUTES:
                self._routes.clear()
            route = self._routes[id(dependant)] = BoundRoute(self.solver, dependant, self._tenant_of, overrides)
        return route if route.binds else None


def binding_for(lifetime: Lifetime, tenant_of: TenantOf) -> Binding | None:
    """
    Give the binding of an app that starts, unless it is switched off or FastAPI is not one that it knows.

    Raises:
        DeclarationError: `TENURE_BINDING` is neither "on" nor "off".
    """
    setting = os.environ.get(SETTING, "on").lower()
    if setting not in {"on", "off"}:
        msg = f"{SETTING}={setting!r} is neither on nor off"
        raise DeclarationError(msg, hint=f"set {SETTING}=off to have FastAPI solve every dependency, or remove it")
    if setting == "off":
        logger.info("binding is off: %s=off", SETTING, extra={"tenure_event": "binding-off"})
        return None
    solver = _hook.solver()
    if isinstance(solver, str):
        logger.warning(OFF, solver, extra={"tenure_event": "binding-off"})
        return None
    return Binding(solver, lifetime, tenant_of)


@contextmanager
def hooked(binding: Binding | None) -> Generator[None]:
    """Let FastAPI's routes ask bindings first, as long as there are any."""
    if binding is None:
        yield
        return
    _hook.add(binding.solver)
    try:
        yield
    finally:
        _hook.remove()


class _Hook:
    """
    The one place where FastAPI is changed: the name by which its routes find their solver.

    Why there and not in each route: docs/decisions/0004-binding-at-the-solver.md.
    """

    def __init__(self) -> None:
        self._lock = Lock()  # apps may run in the event loops of several threads
        self._bindings = 0
        self._solver: Solver | None = None

    def solver(self) -> Solver | str:
        """Give FastAPI's solver, or say why it is not known."""
        with self._lock:
            return self._solver or known_solver()

    def add(self, solver: Solver) -> None:
        """Count one binding more; the first puts the hook in the place of FastAPI's solver."""
        with self._lock:
            self._bindings += 1
            if self._solver is None and routing.solve_dependencies is not solver.solve:  # while the app started
                logger.warning(OFF, REPLACED, extra={"tenure_event": "binding-off"})
            elif self._solver is None:
                self._solver = solver
                routing.solve_dependencies = self.solve

    def remove(self) -> None:
        """Count one less; the last puts FastAPI's own back, unless another library has since built on the hook."""
        with self._lock:
            self._bindings -= 1
            if not self._bindings and self._solver and routing.solve_dependencies == self.solve:
                routing.solve_dependencies = self._solver.solve
                self._solver = None

    def solve(
        self,
        *,
        request: Request | WebSocket,
        dependant: Any,  # noqa: ANN401 (FastAPI's own)
        dependency_overrides_provider: Any = None,  # noqa: ANN401 (FastAPI's own)
        **known: Any,  # noqa: ANN401 (FastAPI's own)
    ) -> Awaitable[Any]:
        """Solve a route's dependencies, bound where they can be."""
        state = request.scope.get("state")
        running: Any = state.get(STATE) if state else None
        if running is None and (app := request.scope.get("app")) is not None:
            running = running_app(app)
        binding: Binding | None = getattr(running, "binding", None)
        if binding is not None:
            route = binding.route(dependant, dependency_overrides_provider)
            if route is not None:
                return route.solve(request, known)
        return utils.solve_dependencies(
            request=request,
            dependant=dependant,
            dependency_overrides_provider=dependency_overrides_provider,
            **known,
        )


_hook = _Hook()
