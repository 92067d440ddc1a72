"""Dependencies that need nothing of a request: made when FastAPI would make them, without its detours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fastapi.concurrency import run_in_threadpool

from tenure.fastapi.instances import FUNCTION_STACK, REQUEST_STACK, instance

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from starlette.requests import HTTPConnection

    from tenure.fastapi.solver import Solver
    from tenure.resources import Resource


class Step(ABC):
    """
    One dependency, with all its inputs known or made by steps before it.

    Attributes:
        parameter: The parameter that its value fills; nothing where a route only wants it done.
        inputs: The steps that make what it takes.
    """

    def __init__(
        self,
        solver: Solver,
        dependant: Any,  # noqa: ANN401 (FastAPI's own)
        constants: dict[str, Any],
        inputs: Sequence[Step],
    ) -> None:
        self.parameter: str | None = dependant.name
        self.inputs = inputs
        self._use_cache: bool = dependant.use_cache
        self._key = solver.cache_key(dependant)
        self._constants = constants

    async def value(self, request: HTTPConnection, cache: dict[Any, Any]) -> Any:  # noqa: ANN401 (any value)
        """Give the value of FastAPI's own cache for this request, or make it and keep it there."""
        arguments = self._constants
        if self.inputs:  # which are asked for each time, as FastAPI does
            arguments = arguments.copy()
            for step in self.inputs:
                arguments[step.parameter or ""] = await step.value(request, cache)
        if self._use_cache and self._key in cache:
            return cache[self._key]
        value = await self._made(request, arguments)
        cache.setdefault(self._key, value)
        return value

    @abstractmethod
    def _made(self, request: HTTPConnection, arguments: dict[str, Any]) -> Awaitable[Any]:
        """Call the dependency."""


class ResourceStep(Step):
    """
    A resource that lives for a call or a request.

    Attributes:
        is_alone: Whether nothing but resources is opened for a request of the route.
    """

    def __init__(self, resource: Resource[Any], *described: Any) -> None:  # noqa: ANN401 (as any step is)
        super().__init__(*described)
        self.is_alone = False
        self._resource = resource

    def _made(self, request: HTTPConnection, arguments: dict[str, Any]) -> Awaitable[Any]:
        key = (self._resource, ())  # without request data there are no security scopes to tell apart
        use_cache, is_alone = self._use_cache, self.is_alone
        return instance(self._resource, request, arguments, key=key, use_cache=use_cache, is_alone=is_alone)


class PlainStep(Step):
    """
    A plain function or generator, called as FastAPI calls it.

    Attributes:
        generates: Whether it is entered, and left at the end of the call or the request.
    """

    def __init__(self, solver: Solver, dependant: Any, *known: Any) -> None:  # noqa: ANN401 (as any step is)
        super().__init__(solver, dependant, *known)
        self.generates = solver.generates(dependant)
        self._is_coroutine = solver.is_coroutine(dependant)
        self._solver = solver
        self._dependant = dependant
        self._stack = FUNCTION_STACK if dependant.scope == "function" else REQUEST_STACK

    def _made(self, request: HTTPConnection, arguments: dict[str, Any]) -> Awaitable[Any]:
        if self.generates:
            return self._solver.enter(self._dependant, request.scope[self._stack], arguments, request)
        if self._is_coroutine:
            made: Awaitable[Any] = self._dependant.call(**arguments)
            return made
        return run_in_threadpool(self._dependant.call, **arguments)
