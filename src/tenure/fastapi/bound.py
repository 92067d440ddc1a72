"""A route's dependencies with everything bound that a request cannot change, and solved from there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tenure.fastapi.leaving import cancel_on_disconnect
from tenure.fastapi.solver import CONNECTION_FIELDS, LIST_FIELDS, NAME_FIELDS, SECURITY_FIELDS
from tenure.fastapi.steps import PlainStep, ResourceStep, Step
from tenure.resources import CONNECTION, Resource
from tenure.scopes import outlives_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from starlette.requests import HTTPConnection

    from tenure.fastapi.solver import Solver
    from tenure.lifetimes import Tenant

    TenantOf = Callable[[Resource[Any]], Tenant | None]


class BoundRoute:
    """
    The dependencies of one route, or of one websocket, for the overrides that it was made under.

    Nothing of FastAPI's is changed: what is left for FastAPI to solve stands in copies.

    Attributes:
        dependant: FastAPI's own description of the route, as it was found.
        binds: Whether anything is bound; if not, FastAPI solves the route as ever.
    """

    def __init__(
        self,
        solver: Solver,
        dependant: Any,  # noqa: ANN401 (FastAPI's own)
        tenant_of: TenantOf,
        overrides: Mapping[Any, Any] | None,
    ) -> None:
        self.dependant = dependant
        self._solver = solver
        self._calls = frozenset(taken.call for taken in _all_below(dependant))
        self._overridden = {call: overrides[call] for call in self._calls if call in overrides} if overrides else {}
        self._constants: dict[str, Any] = {}
        self._connections = [
            (name, kind) for field, kind in CONNECTION_FIELDS.items() if (name := getattr(dependant, field))
        ]
        self._stages: list[Step | Any] = []
        reading = _Reading(solver, tenant_of, self._overridden)
        try:
            self._arrange([reading.read(taken) for taken in dependant.dependencies])
        except _LeftToFastAPI:
            self.binds = False
        else:
            self.binds = reading.has_resource

    def fits(self, overrides: Mapping[Any, Any] | None) -> bool:
        """Tell whether these overrides do to this route what those did that it was made under."""
        if not overrides or self._calls.isdisjoint(overrides):
            return not self._overridden
        return self._overridden == {call: overrides[call] for call in self._calls if call in overrides}

    def _arrange(self, found: list[_Found]) -> None:
        """Put steps and what FastAPI solves in FastAPI's order, as few calls of its solver as there can be."""
        left: list[Any] = []
        for each in found:
            if each.is_constant:
                if each.dependant.name is not None:
                    self._constants[each.dependant.name] = each.constant
            elif each.step is None:
                left.append(each.dependant)
            else:
                if left:
                    self._stages.append(replace(self.dependant, dependencies=left, **_no_inputs()))
                    left = []
                self._stages.append(each.step)
        if left or _takes_request_data(self.dependant, *(name for name, _ in self._connections)):
            self._stages.append(replace(self.dependant, dependencies=left))
        self._let_alone()

    def _let_alone(self) -> None:
        """Tell the steps of resources if they are all that is opened for a request."""
        steps = list(_all_steps(stage for stage in self._stages if isinstance(stage, Step)))
        solved = (taken for stage in self._stages if not isinstance(stage, Step) for taken in _all_below(stage))
        is_alone = not any(isinstance(step, PlainStep) and step.generates for step in steps) and not any(
            isinstance(_call(taken), Resource) or self._solver.generates(taken) for taken in solved
        )
        if cancel_on_disconnect in self._calls:  # it has all closed in peace, by a scope that must be the first
            is_alone = False
        for step in steps:
            if isinstance(step, ResourceStep):
                step.is_alone = is_alone

    async def solve(self, request: HTTPConnection, known: dict[str, Any]) -> Any:  # noqa: ANN401 (FastAPI's own)
        """Give what FastAPI's solver would, in the same order; `known` is what the solver was called with beside."""
        values = self._constants.copy()
        for name, kind in self._connections:
            if isinstance(request, kind):
                values[name] = request
        if not self._stages:
            return self._solver.nothing_left(values, known)
        errors: list[Any] = []
        solved: Any = None
        cache = known.setdefault("dependency_cache", {})
        for stage in self._stages:
            if isinstance(stage, Step):
                value = await stage.value(request, cache)
                if stage.parameter is not None:
                    values[stage.parameter] = value
            else:
                solved = await self._solver.solve(request=request, dependant=stage, **known)
                known["background_tasks"], known["response"] = solved.background_tasks, solved.response
                values.update(solved.values)
                errors += solved.errors
        if solved is None:
            return self._solver.nothing_left(values, known)
        solved.values, solved.errors = values, errors
        return solved


class _LeftToFastAPI(Exception):
    """Raised while a route is read, when it has what only FastAPI's own solving does justice."""


class _Found:
    """What a dependency came to: a constant, or what FastAPI solves, which a step may do instead."""

    def __init__(self, dependant: Any, *, is_constant: bool = False, constant: object = None) -> None:  # noqa: ANN401
        self.dependant = dependant
        self.is_constant = is_constant
        self.constant = constant
        self.step: Step | None = None


class _Reading:
    def __init__(self, solver: Solver, tenant_of: TenantOf, overridden: Mapping[Any, Any]) -> None:
        self.has_resource = False
        self._solver = solver
        self._tenant_of = tenant_of
        self._overridden = overridden
        self._bound_calls: dict[Any, Any] = {}

    def read(self, dependant: Any) -> _Found:  # noqa: ANN401 (FastAPI's own)
        call = self._overridden.get(dependant.call, dependant.call)
        is_for_fastapi = any(getattr(dependant, name, None) for name in SECURITY_FIELDS)
        if isinstance(call, Resource):
            self.has_resource = True
            if outlives_requests(call.scope):
                tenant = self._tenant_of(call)
                if tenant is not None and not is_for_fastapi:
                    return _Found(dependant, is_constant=True, constant=tenant.value)
                if call is dependant.call:  # what was not started is refused where it is asked for
                    return _Found(dependant)
        if call is not dependant.call:  # solved anew from the override's own signature
            raise _LeftToFastAPI
        below = [self.read(taken) for taken in dependant.dependencies]
        constants = {each.dependant.name: each.constant for each in below if each.is_constant}
        found = _Found(self._reduced(dependant, below, constants))
        rest = [each for each in below if not each.is_constant]
        steps = [each.step for each in rest if each.step]
        if len(steps) == len(rest) and not is_for_fastapi and not _takes_request_data(dependant):
            if isinstance(call, Resource):
                found.step = ResourceStep(call, self._solver, found.dependant, constants, steps)
            else:
                known = {} if found.dependant.call is not dependant.call else constants
                found.step = PlainStep(self._solver, found.dependant, known, steps)
        return found

    def _reduced(self, dependant: Any, below: list[_Found], constants: dict[str, Any]) -> Any:  # noqa: ANN401 (FastAPI's own)
        """Give the dependant with what is known taken out of its tree and into its call."""
        as_found = all(each.dependant is taken for each, taken in zip(below, dependant.dependencies, strict=True))
        if as_found and not constants:
            return dependant
        reduced = replace(dependant, dependencies=[each.dependant for each in below])
        if constants:  # one call for all places that want it, as FastAPI makes a dependency once by its call
            call = self._bound_calls.setdefault(dependant.call, partial(dependant.call, **constants))
            left = [each.dependant for each in below if not each.is_constant]
            bound = replace(dependant, dependencies=left, call=call)
            if self._solver.kind(bound) == self._solver.kind(dependant):  # older versions do not see through `partial`
                reduced = bound
            elif any(each.is_constant and each.dependant.call in self._overridden for each in below):
                raise _LeftToFastAPI  # there the constants stay in the tree, as what they override
        if self._solver.cache_key(reduced)[1:] != self._solver.cache_key(dependant)[1:]:
            raise _LeftToFastAPI
        return reduced


def _all_below(dependant: Any) -> Iterator[Any]:  # noqa: ANN401 (FastAPI's own)
    for taken in dependant.dependencies:
        yield taken
        yield from _all_below(taken)


def _all_steps(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all_steps(step.inputs)


def _call(dependant: Any) -> Any:  # noqa: ANN401 (FastAPI's own)
    """Give what is called in the end, without what is bound to it."""
    call = dependant.call
    return call.func if isinstance(call, partial) else call


def _takes_request_data(dependant: Any, *beside: str) -> bool:  # noqa: ANN401 (FastAPI's own)
    names = {getattr(dependant, name) for name in NAME_FIELDS} - {None, CONNECTION, *beside}
    return bool(names) or any(getattr(dependant, name) for name in LIST_FIELDS)


def _no_inputs() -> dict[str, Any]:
    return {**{name: [] for name in LIST_FIELDS}, **dict.fromkeys(NAME_FIELDS)}
