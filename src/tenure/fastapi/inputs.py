"""What a dependency takes, read from its signature as FastAPI reads it: other dependencies, or data of the request."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import BackgroundTasks, Request, Response, WebSocket
from fastapi.params import Body, Depends, Param
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.background import BackgroundTasks as StarletteBackgroundTasks

from tenure.calls import parameters_of, type_and_marks
from tenure.graph import RequestInput
from tenure.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECTION_TYPES = (
    Request,
    WebSocket,
    HTTPConnection,
    Response,
    BackgroundTasks,
    StarletteBackgroundTasks,
    SecurityScopes,
)


class Dependency(NamedTuple):
    """A parameter that another dependency fills."""

    parameter: str
    call: Callable[..., Any]
    scope: str | None
    use_cache: bool


@dataclass(frozen=True)
class Inputs:
    """All that a factory or dependency takes."""

    dependencies: tuple[Dependency, ...]
    request: tuple[RequestInput, ...]


def inputs_of(call: Callable[..., Any], *, skip: int = 0) -> Inputs:
    """
    Read what a dependency takes, leaving out its first `skip` parameters.

    A parameter with a plain default that a request could fill, but need not, is no request data for a resource that
    starts with the app: the default serves.

    Raises:
        DeclarationError: An annotation cannot be read.
    """
    factory = call.factory if isinstance(call, Resource) else call
    dependencies: list[Dependency] = []
    request: list[RequestInput] = []
    for parameter in parameters_of(factory)[skip:]:
        if parameter.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            continue
        taken = _taken(parameter)
        if isinstance(taken, Dependency):
            dependencies.append(taken)
        elif taken is not None:
            request.append(taken)
    return Inputs(tuple(dependencies), tuple(request))


def _taken(parameter: Parameter) -> Dependency | RequestInput | None:
    kind, marks = type_and_marks(parameter)
    for mark in marks:
        if isinstance(mark, Depends):
            return Dependency(parameter.name, mark.dependency or kind, getattr(mark, "scope", None), mark.use_cache)
        if isinstance(mark, Param | Body):
            return RequestInput(parameter.name, f"`{type(mark).__name__}`")
    required = parameter.default is Parameter.empty
    if inspect.isclass(kind) and issubclass(kind, CONNECTION_TYPES):
        return RequestInput(parameter.name, kind.__name__, required)
    return RequestInput(parameter.name, "the query or the body") if required else None


def uses_security_scopes(call: Callable[..., Any], overrides: Mapping[Any, Callable[..., Any]]) -> bool:
    """Tell whether what a dependency gives may depend on the scopes that `Security(…, scopes=[…])` asks for."""
    seen, queue = set[int](), [call]
    while queue:
        here = queue.pop()
        here = overrides.get(here, here)
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(inspect.unwrap(here), SecurityBase):
            return True
        inputs = inputs_of(here)
        if any(taken.source == SecurityScopes.__name__ for taken in inputs.request):
            return True
        queue += [taken.call for taken in inputs.dependencies]
    return False
