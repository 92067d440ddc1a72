"""The plan: what an app needs and who needs it, checked as a whole before anything starts."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenure.calls import Step, drawn, name_of
from tenure.cycles import cycles
from tenure.errors import (
    CaptiveDependency,
    DependencyCycle,
    DuplicateName,
    Finding,
    MissingEngine,
    PlanError,
    RequestData,
    WrongConnection,
)
from tenure.factories import Kind, kind_of
from tenure.resources import Resource, step_of
from tenure.scopes import SCOPES, ScopeName, may_hold, outlives_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SHOWN_USERS = 3


@dataclass(frozen=True)
class RequestInput:
    """A parameter that only a request can fill: its name, and what it takes from the request."""

    parameter: str
    source: str
    required: bool = True


@dataclass(eq=False)
class Need:
    """That a node takes another by a parameter, with what its `Depends` says."""

    parameter: str
    node: Node
    scope: str | None = None
    use_cache: bool = True


@dataclass(eq=False)
class Node:
    """
    One dependency of a plan: a resource, or a plain function that FastAPI solves anew for each request.

    Attributes:
        call: What FastAPI calls.
        stands_for: The overridden resource that it starts in the place of, if it does.
        needs: What it takes itself.
        request_inputs: What it takes from a request.
        used_by: The routes that take it themselves.
    """

    call: Callable[..., Any]
    stands_for: Resource[Any] | None = None
    needs: list[Need] = field(default_factory=list[Need])
    request_inputs: list[RequestInput] = field(default_factory=list[RequestInput])
    used_by: list[str] = field(default_factory=list[str])

    @property
    def resource(self) -> Resource[Any] | None:
        """The resource, or nothing for a plain dependency."""
        return self.call if isinstance(self.call, Resource) else None

    @property
    def factory(self) -> Callable[..., Any]:
        """What makes the value."""
        return self.call.factory if isinstance(self.call, Resource) else self.call

    @property
    def name(self) -> str:
        """The short name."""
        return name_of(self.call)

    @property
    def kind(self) -> Kind:
        """How the value is made."""
        return self.call.kind if isinstance(self.call, Resource) else kind_of(self.call)

    @property
    def location(self) -> str:
        """``file:line`` of the factory."""
        return step_of(self.call).place

    @property
    def starts_with_app(self) -> bool:
        """Whether it is a resource that lives longer than a request."""
        return self.resource is not None and outlives_requests(self.resource.scope)

    def lifetime(self, need: Need | None = None) -> ScopeName | None:
        """How long its value lives where `need` takes it: nothing for a plain function, which keeps nothing open."""
        if self.resource is not None:
            return self.resource.scope
        if self.kind not in {Kind.ASYNC_GENERATOR, Kind.GENERATOR}:
            return None
        return "function" if need is not None and need.scope == "function" else "request"


def ids(nodes: Iterable[Node]) -> dict[Node, str]:
    """Tell nodes apart: by their names, and those that share one by where they are written as well."""
    named = list(nodes)
    shared = Multiset(node.name for node in named)
    told: dict[Node, str] = {}
    taken: Multiset[str] = Multiset()
    for node in named:
        name = node.name if shared[node.name] == 1 else f"{node.name} ({node.location})"
        taken[name] += 1
        told[node] = name if taken[name] == 1 else f"{name} #{taken[name]}"
    return told


class Graph:
    """
    What an app needs: nodes that need other nodes, and the routes that use them.

    Attributes:
        nodes: Every node, each dependency once.
        lifespan: The user's own lifespan, which is held to the same rules but started by no one here.
        websocket_roots: What websocket routes take themselves.
        http_roots: What HTTP routes take themselves.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.lifespan: Node | None = None
        self.http_roots: list[Need] = []
        self.websocket_roots: list[Need] = []

    def started(self) -> list[Node]:
        """Give what the app starts, each after what it needs: its resources and the plain dependencies below them."""
        order: dict[Node, None] = {}
        stack = [(node, iter(node.needs)) for node in reversed(self.nodes) if node.starts_with_app]
        entered: set[Node] = set()
        while stack:  # without recursion: a chain may be longer than Python's stack
            node, needs = stack[-1]
            below = next((need.node for need in needs if need.node not in entered), None)
            entered.add(node)
            if below is not None:
                stack.append((below, iter(below.needs)))
            else:
                order.setdefault(stack.pop()[0])
        return [node for node in order if node is not self.lifespan]

    def users(self, node: Node) -> list[str]:
        """Name the routes that use a node, directly or by way of others."""
        needed_by: dict[Node, list[Node]] = {}
        for user in self.nodes:
            for need in user.needs:
                needed_by.setdefault(need.node, []).append(user)
        found, seen, queue = dict.fromkeys(node.used_by), {node}, [node]
        while queue:
            for user in needed_by.get(queue.pop(), []):
                if user not in seen:
                    seen.add(user)
                    queue.append(user)
                    found.update(dict.fromkeys(user.used_by))
        return list(found)

    def why(self, node: Node) -> list[str]:
        """Say why a node is in the plan: the chain from a route down to it, then the routes."""
        above: dict[Node, Node | None] = {node: None}
        queue, top = [node], node
        while queue:
            top = queue.pop(0)
            if top.used_by:
                break
            for user in self.nodes:
                if user not in above and any(need.node is top for need in user.needs):
                    above[user] = top
                    queue.append(user)
        chain: list[Node] = []
        below: Node | None = top
        while below is not None:
            chain.append(below)
            below = above[below]
        return [*_drawn(chain), *_used_by(self.users(node))]

    def check(self, state: str | None = None) -> None:
        """
        Refuse a graph that cannot work; `state` is the URL of the engine for shared state, if there is one.

        Raises:
            PlanError: Something holds what lives shorter than itself, needs itself, shares its name, asks for data
                that it cannot have, or has a scope that nothing serves. All of it is in one report.
        """
        findings = list(self._findings(state))
        if findings:
            raise PlanError(findings, total=len(self.nodes))

    def _findings(self, state: str | None) -> Iterator[Finding]:
        circles = [self._circle(chain) for chain in cycles(self.nodes, lambda node: [n.node for n in node.needs])]
        yield from circles
        yield from self._duplicate_names()
        yield from self._duplicate_checks()
        for node in self.nodes:
            # What replaces a resource, as in tests, is this app's alone.
            if node.resource is not None and node.stands_for is None and (hint := node.resource.lacks(state)):
                yield self._missing_engine(node, node.resource.scope, hint)
        if not circles:  # what is held is only defined where the walk down ends
            yield from self._captives()
        yield from self._wrong_connections()

    def _circle(self, chain: list[Node]) -> DependencyCycle:
        return DependencyCycle(chain[0].name, path=[*_drawn(chain), *_used_by(self.users(chain[0]))])

    def _duplicate_names(self) -> Iterator[DuplicateName]:
        by_name: dict[tuple[str, int, str], dict[Resource[Any], Node]] = {}
        for node in self.nodes:
            declared = node.stands_for or node.resource
            if declared is not None and node is not self.lifespan:
                # Two modules may each have a `pool`, and two objects the same method; only a name that was given, or
                # that one module uses twice, is a clash.
                factory = declared.factory
                module = "" if declared.explicit_name else str(getattr(factory, "__module__", ""))
                owner = 0 if declared.explicit_name else id(getattr(factory, "__self__", None))
                by_name.setdefault((module, owner, declared.name), {}).setdefault(declared, node)
        for (*_, name), nodes in by_name.items():
            if len(nodes) > 1:
                yield DuplicateName(
                    f"{len(nodes)} resources are named `{name}`",
                    path=[line for node in nodes.values() for line in _drawn([node])],
                    hint='give each a name of its own, `@scoped("app", name="…")`',
                )

    def _duplicate_checks(self) -> Iterator[DuplicateName]:
        by_name: dict[str, list[tuple[Resource[Any], Step]]] = {}
        for resource in [node.resource for node in self.nodes if node.resource is not None]:
            for check in resource.checks:
                place = resource.location if check.is_built_in else check.location
                by_name.setdefault(check.name, []).append((resource, Step(resource.name, resource.scope, place)))
        for name, found in by_name.items():
            owners = dict.fromkeys(resource for resource, _ in found)
            given = {owner.explicit_name for owner in owners}
            is_told = (
                len(owners) == len(found) and len(given) == 1 and None not in given
            )  # it is theirs that is not one
            if len(found) > 1 and not is_told:
                yield DuplicateName(
                    f"{len(found)} health checks are named `{name}`",
                    path=[line for _, step in found for line in drawn([step])],
                    hint='give each a name of its own, `@pool.health(name="…")`',
                )

    def _missing_engine(self, node: Node, scope: ScopeName, hint: str) -> MissingEngine:
        return MissingEngine(
            f"`{node.name}` has the scope `{scope}`, which has no engine here",
            path=[*_drawn([node]), *_used_by(self.users(node))],
            hint=hint,
        )

    def _captives(self) -> Iterator[Finding]:
        lifetimes: dict[Node, set[ScopeName | None]] = {
            node: {node.resource.holds_as} for node in self.nodes if node.resource is not None
        }
        needs = [*self.http_roots, *self.websocket_roots, *(need for user in self.nodes for need in user.needs)]
        for need in needs:  # how long a plain generator lives is said where it is taken
            if need.node.resource is None:
                lifetimes.setdefault(need.node, set()).add(need.node.lifetime(need))
        for node, scopes in lifetimes.items():
            for scope in SCOPES:
                if scope in scopes and scope != "function":
                    yield from self._held_too_long(node, scope)

    def _held_too_long(self, holder: Node, scope: ScopeName) -> Iterator[Finding]:
        seen, stack = {holder}, [[holder]]
        while stack:
            chain = stack.pop()
            node = chain[-1]
            if outlives_requests(scope):
                yield from (self._wants_request(chain, scope, taken) for taken in node.request_inputs)
            for need in node.needs:
                held = need.node.lifetime(need)
                is_plain, starts = need.node.resource is None, outlives_requests(scope)
                if held is not None and not may_hold(scope, held) and not (is_plain and starts):
                    yield self._captive([*chain, need.node], scope, held)
                elif is_plain and need.node not in seen and (held is None or starts):
                    seen.add(need.node)  # plain: whatever it takes is held by the holder
                    stack.append([*chain, need.node])

    def _captive(self, chain: list[Node], scope: ScopeName, held: ScopeName) -> CaptiveDependency:
        holder, captive = chain[0], chain[-1]
        taken = captive.request_inputs[:1] if outlives_requests(scope) else []
        cure = f"take `{captive.name}` where `{holder.name}` is used"
        if holder.resource is None:
            cure = f'declare it `Depends({holder.name}, scope="function")`'
        return CaptiveDependency(
            f"{scope}-scoped `{holder.name}` needs {held}-scoped `{captive.name}`",
            path=[*_drawn(chain, *(t.source for t in taken)), *_used_by(self.users(holder))],
            hint=f'{cure}, or give `{captive.name}` the scope "{scope}"',
        )

    def _wants_request(self, chain: list[Node], scope: ScopeName, taken: RequestInput) -> RequestData:
        owner = chain[-1]
        return RequestData(
            f"{scope}-scoped `{chain[0].name}` asks for request data: "
            f"`{taken.parameter}` of `{owner.name}` is read from {taken.source}",
            path=[*_drawn(chain, taken.source), *_used_by(self.users(chain[0]))],
            hint=f"nothing is requested when it starts: take `{taken.parameter}` from another dependency, "
            f'as settings are, or give `{chain[0].name}` the scope "request"',
        )

    def _wrong_connections(self) -> Iterator[WrongConnection]:
        for roots, wrong, kind in (
            (self.websocket_roots, "Request", "websocket"),
            (self.http_roots, "WebSocket", "HTTP"),
        ):
            for node in _solved(need.node for need in roots):
                if node.resource is not None and any(i.source == wrong and i.required for i in node.request_inputs):
                    yield WrongConnection(
                        f"`{node.name}` takes `{wrong}`, but a route that uses it is {kind}",
                        path=[*_drawn([node], wrong), *_used_by(self.users(node))],
                        hint="annotate the parameter `HTTPConnection` (from fastapi.requests), which serves both",
                    )


def _solved(roots: Iterable[Node]) -> Iterator[Node]:
    queue = list(dict.fromkeys(roots))
    seen = set(queue)
    while queue:
        node = queue.pop()
        if not node.starts_with_app:  # a started resource is made without the connection
            yield node
            new = [need.node for need in node.needs if need.node not in seen]
            seen.update(new)
            queue += new


def _drawn(chain: Iterable[Node], *ends: str) -> list[str]:
    return drawn([*(step_of(node.call) for node in chain), *(Step(end, "", "fastapi") for end in ends)])


def _used_by(routes: list[str]) -> list[str]:
    if not routes:
        return []
    more = f" and {len(routes) - SHOWN_USERS} more" if len(routes) > SHOWN_USERS else ""
    return [f"used by {', '.join(routes[:SHOWN_USERS])}{more}"]
