"""What an app would start: found on its routes, with overrides applied, before anything runs."""

from __future__ import annotations

import os
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from tenure.errors import DeclarationError, OverrideError
from tenure.fastapi.discovery import Discovery, lives_apart
from tenure.fastapi.overrides import overrides_of
from tenure.fastapi.routes import Routes, routes_of
from tenure.graph import Need
from tenure.resources import Resource
from tenure.state.deployments import VARIABLE, deployment_name, state_url
from tenure.state.engines import address_by, state_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastapi import FastAPI

    from tenure.graph import Node
    from tenure.remote.hosted import Apart


class Plan:
    """
    What an app, or resources without one, would start; nothing is checked or opened when it is made.

    Attributes:
        app: The app, if there is one.
        mounted: The apps that are mounted in it.
        graph: What it needs.
        discovery: What found it, and finds what is asked for later.
        overrides: What replaces what, from the app and from those that are mounted in it.
        lifespan: The user's own lifespan, if there is one.
        state: Where machines share state: an address, or the name of the pool that leads there.
        deployment: What the program calls the deployment, if it says so.

    Raises:
        DeclarationError: `also` has what is no resource; or the state's address or the deployment's name is none.
    """

    def __init__(
        self,
        app: FastAPI | None,
        *,
        also: Iterable[Resource[Any]] = (),
        lifespan: Callable[..., Any] | None = None,
        deployment: str | None = None,
        state: str | Resource[Any] | None = None,
    ) -> None:
        found = routes_of(app) if app is not None else Routes([], [])
        self.app = app
        self.mounted = found.mounted
        self.overrides = overrides_of(app, found.mounted) if app is not None else {}
        overrides = dict(self.overrides)
        if isinstance(state, Resource):
            overrides[state_address] = address_by(state)
        self.discovery = Discovery(overrides)
        self.discovery.add_routes(found.routes)
        for resource in also:
            if not isinstance(resource, Resource):
                msg = f"also=[…] has {resource!r}, which is not a resource"
                raise DeclarationError(msg, hint='declare it with `@scoped("app")`')
            self.discovery.add(resource, "also=[…]")
        self.lifespan = self.discovery.add_lifespan(lifespan) if lifespan is not None else None
        self.graph = self.discovery.graph
        self._url = None if isinstance(state, Resource) else state
        self.state = state.name if isinstance(state, Resource) else state_url(state)
        if self.state is not None:
            self._give_engine()
        self.deployment = deployment_name(deployment) if deployment is not None else None

    def check(self) -> None:
        """
        Refuse what cannot work.

        Raises:
            PlanError: The graph cannot work; all of it is in one report.
            DeclarationError: Something is shared by machines, and nothing says by which.
        """
        self.graph.check(self.state)
        self._refuse_to_guess()
        for node in self.graph.nodes:
            apart = lives_apart(node)
            if apart is not None:
                self._check_apart(apart)

    def _check_apart(self, apart: Apart) -> None:
        """Refuse an object that could not be made in its own process, with what that would start there."""
        apart.place()
        resource = apart.resource
        there = Plan(None, also=[apart.owned()], state=self._url)
        replaced = next((node for node in there.graph.nodes if node.call in self.overrides), None)
        if replaced is not None:
            msg = f"`{replaced.name}` is overridden, but `{resource.name}` takes it in a process of its own"
            raise OverrideError(
                msg, path=[f"declared at {resource.location}"], hint=f"override `{resource.name}` itself"
            )
        there.graph.check(there.state)

    def _give_engine(self) -> None:
        """Let the engine of the deployment start before what is done once in it."""
        for node in list(self.graph.nodes):
            resource = done_once(node)
            if resource is not None and resource.scope == "cluster" and not lives_apart(node):
                from tenure.state import engine_handles, once  # noqa: PLC0415 (what few apps need)

                node.needs.append(Need(once.ENGINE, self.discovery.node(engine_handles.cluster_engine)))

    def _refuse_to_guess(self) -> None:
        """Refuse to derive a deployment's name from this machine, where other machines are to know it."""
        shared = (node for node in self.graph.nodes if node.resource is not None and node.resource.scope == "cluster")
        node = next(shared, None)
        if node is not None and self.deployment is None and VARIABLE not in os.environ:
            msg = f"`{node.name}` is shared among machines, and nothing says which of them belong together"
            hint = f'name the deployment: `lifespan(deployment="roster")`, or set {VARIABLE}'
            raise DeclarationError(msg, path=[f"declared at {node.location}"], hint=hint)


def done_once(node: Node) -> Resource[Any] | None:
    """Give a node's resource, if one process makes its value for others; what overrides it is each one's own."""
    resource = node.resource
    return resource if resource is not None and resource.is_done_once and not node.stands_for else None


def lifespans_of(app: FastAPI) -> Iterator[Any]:
    """
    Give the lifespans of an app, without running any: its own, and those that it wraps.

    FastAPI wraps one when a router is included, and a program may in a decorator; either keeps it in its closure.
    """
    seen, queue = set[int](), [app.router.lifespan_context]
    while queue:
        each: Any = queue.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        written = unwrap(each)
        held: tuple[Any, ...] = getattr(written, "__closure__", None) or ()
        queue += [value for cell in held if callable(value := _content(cell))]


def _content(cell: Any) -> Any:  # noqa: ANN401 (any value)
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None
