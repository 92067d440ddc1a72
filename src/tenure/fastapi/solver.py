"""FastAPI's own solver, as far as binding has to know it: its parts in each version, or why they are not known."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import fastapi.routing
from fastapi import Request, Response, WebSocket
from fastapi.dependencies import models, utils
from fastapi.requests import HTTPConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping
    from contextlib import AsyncExitStack

LIST_FIELDS = {"path_params", "query_params", "header_params", "cookie_params", "body_params"}
"""What a dependant itself takes from a request: the parameters of each kind."""
CONNECTION_FIELDS = {
    "request_param_name": Request,
    "websocket_param_name": WebSocket,
    "http_connection_param_name": HTTPConnection,
}
"""What a dependant takes of the connection itself, and what the connection must be for that."""
NAME_FIELDS = {
    *CONNECTION_FIELDS,
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
}
"""What a dependant itself takes from FastAPI: the name of the parameter, if it has one."""
SECURITY_FIELDS = {"security_requirements", "security_scopes", "own_oauth_scopes", "concurrency"}
"""What makes a dependant one that only FastAPI should solve. Which of them there are differs by version."""
OTHER_FIELDS = {"dependencies", "name", "call", "use_cache", "path", "scope"}
SOLVE_PARAMETERS = {
    "request",
    "dependant",
    "body",
    "background_tasks",
    "response",
    "dependency_overrides_provider",
    "dependency_cache",
    "async_exit_stack",
    "embed_body_fields",
}
REPLACED = "another library has replaced `fastapi.routing.solve_dependencies`"
SOLVED_FIELDS = {"values", "errors", "background_tasks", "response", "dependency_cache"}
KINDS = ("is_gen_callable", "is_async_gen_callable", "is_coroutine_callable")


@dataclass(frozen=True)
class Solver:
    """
    What binding uses of FastAPI.

    Attributes:
        solve: FastAPI's `solve_dependencies`.
        generators_take_request: Whether FastAPI wants to know the request of a generator that it enters.
        cache_key: Under which key FastAPI keeps what a dependant gave, for the rest of the request.
        kind: How FastAPI calls a dependant: whether as a generator, an async generator, a coroutine; else in a thread.
    """

    solve: Callable[..., Awaitable[Any]]
    generators_take_request: bool
    cache_key: Callable[[Any], tuple[Hashable, ...]]
    kind: Callable[[Any], tuple[bool, ...]]

    def generates(self, dependant: Any) -> bool:  # noqa: ANN401 (FastAPI's own)
        """Tell whether FastAPI enters it as a generator."""
        return any(self.kind(dependant)[:2])

    def is_coroutine(self, dependant: Any) -> bool:  # noqa: ANN401 (FastAPI's own)
        """Tell whether FastAPI awaits it on the event loop."""
        return self.kind(dependant)[2]

    def enter(
        self,
        dependant: Any,  # noqa: ANN401 (FastAPI's own)
        stack: AsyncExitStack,
        values: dict[str, Any],
        request: HTTPConnection,
    ) -> Awaitable[Any]:
        """Enter a plain generator as FastAPI does, with what this version does when it is left."""
        extra: dict[str, Any] = {"request": request} if self.generators_take_request else {}
        return utils._solve_generator(dependant=dependant, stack=stack, sub_values=values, **extra)  # noqa: SLF001

    def nothing_left(self, values: dict[str, Any], known: Mapping[str, Any]) -> Any:  # noqa: ANN401 (FastAPI's own)
        """Give what FastAPI's solver gives where there is nothing for it to solve, but for the values."""
        response = known.get("response")
        if response is None:
            response = Response()
            del response.headers["content-length"]
            response.status_code = None  # type: ignore[assignment] # as FastAPI does, for "not set by anyone"
        return utils.SolvedDependency(
            values=values,
            errors=[],
            background_tasks=known.get("background_tasks"),
            response=response,
            dependency_cache=known.get("dependency_cache") or {},
        )


def known_solver() -> Solver | str:
    """Give FastAPI's solver, or say what about it is not as known."""
    solve = utils.solve_dependencies
    if getattr(fastapi.routing, "solve_dependencies", None) is not solve:
        return REPLACED
    of_generators = _parameters(getattr(utils, "_solve_generator", None))
    expected = {
        "the parameters of `solve_dependencies`": (_parameters(solve) - {"_uses_scopes_cache"}, SOLVE_PARAMETERS),
        "the parameters of `_solve_generator`": (of_generators - {"request"}, {"dependant", "stack", "sub_values"}),
        "the fields of `SolvedDependency`": (_fields(getattr(utils, "SolvedDependency", None)), SOLVED_FIELDS),
        "the fields of `Dependant`": (
            _fields(models.Dependant) - SECURITY_FIELDS - {"parent_oauth_scopes"},
            LIST_FIELDS | NAME_FIELDS | OTHER_FIELDS,
        ),
    }
    for what, (found, known) in expected.items():
        if found != known:
            return f"{what} are not as known ({', '.join(sorted(found ^ known))})"
    takes_request = "request" in of_generators
    if hasattr(models.Dependant, "cache_key"):
        return Solver(solve, takes_request, lambda dependant: dependant.cache_key, _kind_by_properties)
    functions = [getattr(models, f"_{name}", None) for name in KINDS]
    key: Any = getattr(models, "_get_cache_key", None)
    if key is None or None in functions:
        return "how a dependant's cache key and kind are found is not as known"
    return Solver(
        solve,
        takes_request,
        lambda dependant: key(dependant=dependant),
        lambda dependant: tuple(function(dependant.call) for function in functions if function is not None),
    )


def _kind_by_properties(dependant: Any) -> tuple[bool, ...]:  # noqa: ANN401 (FastAPI's own)
    return tuple(getattr(dependant, name) for name in KINDS)


def _parameters(function: Any) -> set[str]:  # noqa: ANN401 (whatever stands there)
    return set(inspect.signature(function).parameters) if inspect.isfunction(function) else set()


def _fields(kind: Any) -> set[str]:  # noqa: ANN401 (whatever stands there)
    return {field.name for field in fields(kind)} if is_dataclass(kind) else set()
