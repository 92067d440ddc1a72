"""The graph of an app: every resource that its routes need, directly or by way of others, with overrides applied."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenure.fastapi.inputs import inputs_of
from tenure.graph import Graph, Need, Node
from tenure.remote.hosted import apart_of
from tenure.resources import Resource
from tenure.scopes import outlives_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from tenure.fastapi.inputs import Dependency
    from tenure.fastapi.routes import Route
    from tenure.remote.hosted import Apart


class Discovery:
    """
    A graph in the making.

    Attributes:
        graph: What has been found.
        stand_ins: For each overridden resource that starts with the app, the resource that starts in its place.
    """

    def __init__(self, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
        self.graph = Graph()
        self.stand_ins: dict[Resource[Any], Resource[Any]] = {}
        self._overrides = dict(overrides)
        self._nodes: dict[Any, Node] = {}
        self._replaced: dict[Callable[..., Any], Resource[Any]] = {}

    def add_routes(self, routes: Iterable[Route]) -> None:
        """Add what routes take."""
        for route in routes:
            roots = self.graph.websocket_roots if route.is_websocket else self.graph.http_roots
            for dependency in route.dependencies:
                need = self._need(dependency)
                need.node.used_by.append(route.label)
                roots.append(need)

    def add(self, call: Callable[..., Any], label: str) -> Node:
        """Add a dependency that no route needs to take, used by what `label` says."""
        node = self.node(call)
        node.used_by.append(label)
        return node

    def add_lifespan(self, function: Callable[..., Any]) -> Node:
        """Add the user's own lifespan, which takes the app and then what it needs."""
        holder: Resource[Any] = Resource(function, scope="app")
        node = Node(holder)
        node.used_by.append("the app's own lifespan")
        self.graph.lifespan = node
        self.graph.nodes.append(node)
        self._fill(node, skip=1)
        return node

    def started_for(self, resource: Resource[Any]) -> Resource[Any]:
        """Give the resource that starts in the place of one: itself, unless it is overridden."""
        override = self._overrides.get(resource)
        return override if isinstance(override, Resource) else self.stand_ins.get(resource, resource)

    @contextmanager
    def tentative(self) -> Generator[None]:
        """Forget what was added in a block that raises."""
        count, known = len(self.graph.nodes), frozenset(self._nodes)
        try:
            yield
        except BaseException:
            del self.graph.nodes[count:]
            for call in self._nodes.keys() - known:
                del self._nodes[call]
            raise

    def find(self, call: Callable[..., Any]) -> Node | None:
        """Give the node of exactly this dependency, if it is in the plan."""
        return self._nodes.get(call)

    def node(self, call: Callable[..., Any]) -> Node:
        """Give the node of a dependency, or of what overrides it, reading on from there when it is new."""
        effective = self._effective(call)
        node = self._nodes.get(effective)
        if node is None:
            node = self._new(effective)
            self._fill(node)
        return node

    def _new(self, call: Callable[..., Any]) -> Node:
        node = self._nodes[call] = Node(call, stands_for=self._replaced.get(call))
        self.graph.nodes.append(node)
        return node

    def _fill(self, node: Node, skip: int = 0) -> None:
        queue = [(node, skip)]
        while queue:  # without recursion: a chain may be longer than Python's stack
            reading, leave_out = queue.pop()
            if lives_apart(reading):  # what it takes is started where it lives, and not in this process
                continue
            inputs = inputs_of(reading.call, skip=leave_out)
            reading.request_inputs.extend(inputs.request)
            for dependency in inputs.dependencies:
                effective = self._effective(dependency.call)
                below = self._nodes.get(effective)
                if below is None:
                    below = self._new(effective)
                    queue.append((below, 0))
                reading.needs.append(Need(dependency.parameter, below, dependency.scope, dependency.use_cache))

    def _need(self, dependency: Dependency) -> Need:
        return Need(dependency.parameter, self.node(dependency.call), dependency.scope, dependency.use_cache)

    def _effective(self, call: Callable[..., Any]) -> Callable[..., Any]:
        override = self._overrides.get(call)
        if override is None:
            return call
        if isinstance(override, Resource) or not isinstance(call, Resource) or not outlives_requests(call.scope):
            return override
        if call not in self.stand_ins and not self._wants_request(override):
            # What replaces a started resource is started too, once and with its own end, not called for each request.
            stand_in = self.stand_ins[call] = call.made_by(override, name=call.name)
            self._replaced[stand_in] = call
        return self.stand_ins.get(call, override)

    def _wants_request(self, override: Callable[..., Any]) -> bool:
        seen, queue = set[Any](), [override]
        while queue:
            call = queue.pop()
            call = self._overrides.get(call, call)
            if call in seen:
                continue
            seen.add(call)
            inputs = inputs_of(call)
            if inputs.request or (isinstance(call, Resource) and not outlives_requests(call.scope)):
                return True
            below = (taken.call for taken in inputs.dependencies)
            queue += [each for each in below if not (isinstance(each, Resource) and outlives_requests(each.scope))]
        return False


def lives_apart(node: Node) -> Apart | None:
    """Say how a node's value lives in a process of its own, if it does; what overrides it is each worker's own."""
    return apart_of(node.call) if not node.stands_for else None
