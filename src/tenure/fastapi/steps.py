"""Dependencies that need nothing of a request: made when FastAPI would make them, without its detours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fastapi.concurrency import run_in_threadpool

from tenure.fastapi.instances import FUNCTION_STACK, REQUEST_STACK, instance
from tenure.fastapi.solver import generator_solved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Hashable, Sequence

    from starlette.requests import HTTPConnection

    from tenure.fastapi.solver import Solver
    from tenure.resources import Resource


class Step(ABC):
    """
    One dependency, with all its inputs known or made by steps before it.

    Attributes:
        parameter: The parameter that its value fills; nothing where a route only wants it done.
        inputs: The steps that make what it takes.
        is_alone: Whether nothing but resources is opened for a request of the route.
    """

    def __init__(self, dependant: Any, constants: dict[str, Any], inputs: Sequence[Step]) -> None:  # noqa: ANN401 (FastAPI's own)
        self.parameter: str | None = dependant.name
        self.use_cache: bool = dependant.use_cache
        self.inputs = inputs
        self.is_alone = False
        self._constants = constants

    @abstractmethod
    def value(self, request: HTTPConnection, cache: dict[Any, Any]) -> Awaitable[Any]:
        """Give the request's value, making it when it is the first or `use_cache` is off."""

    async def arguments(self, request: HTTPConnection, cache: dict[Any, Any]) -> dict[str, Any]:
        """Give what the dependency is called with; its inputs are asked for each time, as FastAPI does."""
        arguments = self._constants.copy()
        for step in self.inputs:
            arguments[step.parameter or ""] = await step.value(request, cache)
        return arguments


class ResourceStep(Step):
    """A resource that lives for a call or a request."""

    def __init__(
        self,
        resource: Resource[Any],
        dependant: Any,  # noqa: ANN401 (FastAPI's own)
        constants: dict[str, Any],
        inputs: Sequence[Step],
    ) -> None:
        super().__init__(dependant, constants, inputs)
        self._resource = resource
        self._key = (resource, ())  # without request data there are no security scopes to tell apart

    def value(self, request: HTTPConnection, cache: dict[Any, Any]) -> Awaitable[Any]:
        """Give the one value that all who want it in this request share, however they came by it."""
        if self.inputs:
            return self._after_inputs(request, cache)
        return self._instance(request, self._constants)

    async def _after_inputs(self, request: HTTPConnection, cache: dict[Any, Any]) -> Any:  # noqa: ANN401 (any value)
        return await self._instance(request, await self.arguments(request, cache))

    def _instance(self, request: HTTPConnection, arguments: dict[str, Any]) -> Awaitable[Any]:
        use_cache, is_alone = self.use_cache, self.is_alone
        return instance(self._resource, request, arguments, key=self._key, use_cache=use_cache, is_alone=is_alone)


class PlainStep(Step):
    """A plain function or generator, called as FastAPI calls it and kept where FastAPI keeps it."""

    def __init__(
        self,
        solver: Solver,
        dependant: Any,  # noqa: ANN401 (FastAPI's own)
        constants: dict[str, Any],
        inputs: Sequence[Step],
    ) -> None:
        super().__init__(dependant, constants, inputs)
        self._dependant = dependant
        self._key: Hashable = solver.cache_key(dependant)
        self.generates, self._is_coroutine = solver.generates(dependant), solver.is_coroutine(dependant)
        self._stack = FUNCTION_STACK if dependant.scope == "function" else REQUEST_STACK

    async def value(self, request: HTTPConnection, cache: dict[Any, Any]) -> Any:  # noqa: ANN401 (any value)
        """Give the value of FastAPI's own cache for this request, or make it and keep it there."""
        arguments = await self.arguments(request, cache)
        if self.use_cache and self._key in cache:
            return cache[self._key]
        value = await self._made(request, arguments)
        cache.setdefault(self._key, value)
        return value

    async def _made(self, request: HTTPConnection, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 (any value)
        if self.generates:
            return await generator_solved(self._dependant, request.scope[self._stack], arguments, request)
        if self._is_coroutine:
            return await self._dependant.call(**arguments)
        return await run_in_threadpool(self._dependant.call, **arguments)
