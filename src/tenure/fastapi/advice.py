"""What an app may do, and should think about: warnings of what costs or bites, found in a plan that runs nothing."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenure.calls import Step, drawn
from tenure.factories import Kind
from tenure.fastapi.routes import routes_of
from tenure.fastapi.sources import is_own, written
from tenure.graph import SHOWN_USERS, Need
from tenure.resources import Resource, step_of
from tenure.scopes import outlives_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from tenure.fastapi.plan import Plan
    from tenure.graph import Node
    from tenure.scopes import ScopeName

    Made = dict[Node, dict[ScopeName | None, list[str]]]

DOCS = "docs/warnings.md"
COMMITS = {"commit", "save"}
"""Methods that write what was changed, where they are called after the `yield`."""
TRANSACTIONS = {"atomic", "begin", "transaction"}
"""Methods whose block writes what was changed where it ends, if the `yield` is in it."""
MAY_TAKE_TIME = (ast.Call, ast.Import, ast.ImportFrom, ast.With, ast.For, ast.comprehension)
"""What runs other code: a function without any of it hands out what is there."""


@dataclass(frozen=True)
class Advice:
    """
    One warning.

    Attributes:
        code: A stable word for this kind of warning, the heading of its section in ``docs/warnings.md``.
        message: What costs or bites, in one sentence without a full stop.
        path: Lines that show where, each with file and line.
        hint: What to do instead.
    """

    code: str
    message: str
    path: tuple[str, ...]
    hint: str

    @property
    def link(self) -> str:
        """Where the documentation explains this code."""
        return f"{DOCS}#{self.code}"

    def __str__(self) -> str:
        """Render it as errors are."""
        lines = [f"warning[{self.code}]: {self.message}", *(f"  {line}" for line in self.path)]
        return "\n".join([*lines, "", f"hint: {self.hint}", f"see:  {self.link}"])


def advice(plan: Plan, modules: Iterable[ModuleType]) -> list[Advice]:
    """
    Give all warnings about the program's own dependencies; `modules` are those in which it may declare some.

    Reads source files.
    """
    made = _made(plan)
    own = {node: lifetimes for node, lifetimes in made.items() if _is_own(node)}
    return [
        *_threads(own),
        *_late_commits(own),
        *_twice_in_a_request(own),
        *_declared_twice(plan),
        *_unused(plan, modules),
    ]


def _made(plan: Plan) -> Made:
    """Give what is made for requests, for how long each lives, and on which routes."""
    made: Made = {}
    for route in routes_of(plan.app).routes if plan.app is not None else []:
        needs = [Need(taken.parameter, plan.discovery.node(taken.call), taken.scope) for taken in route.dependencies]
        seen: set[tuple[Node, ScopeName | None]] = set()
        while needs:
            need = needs.pop()
            node, lifetime = need.node, need.node.lifetime(need)
            if not node.starts_with_app and (node, lifetime) not in seen:
                seen.add((node, lifetime))
                made.setdefault(node, {}).setdefault(lifetime, []).append(route.label)
                needs += node.needs
    return {node: made[node] for node in plan.graph.nodes if node in made}


def _threads(made: Made) -> Iterator[Advice]:
    for node, lifetimes in made.items():
        if node.kind is Kind.FUNCTION and _hands_out(node.factory):
            same = "" if node.request_inputs else ', or give it the scope "app" if what it hands out is always the same'
            yield Advice(
                "sync-dependency",
                f"`{node.name}` hands out what is there already, and each request waits for a thread to do so",
                (*drawn([step_of(node.call)]), *_used_by(lifetimes)),
                f"write `async def {node.name}`{same}",
            )


def _hands_out(factory: Callable[..., Any]) -> bool:
    """Tell whether a sync function can do nothing that takes time."""
    if hasattr(factory, "cache_info") and not inspect.signature(factory).parameters:
        return True
    function = None if hasattr(factory, "__wrapped__") else written(factory)
    if function is None:
        return False
    return not any(isinstance(part, MAY_TAKE_TIME) for line in function.body for part in ast.walk(line))


def _late_commits(made: Made) -> Iterator[Advice]:
    for node, lifetimes in made.items():
        commit = _commit(node.factory) if "request" in lifetimes else None
        if commit is not None:
            name, line = commit
            file, _, first = node.location.rpartition(":")
            cure = f'take it as `Depends({node.name}, scope="function")`'
            if node.resource is not None:
                cure = 'declare it `@scoped("function")`'
            yield Advice(
                "late-commit",
                f"`{node.name}` commits after the answer is sent: the client is told of no commit that fails",
                (
                    *drawn([step_of(node.call), Step(f"`{name}`", "", f"{file}:{int(first) + line - 1}")]),
                    *_used_by({"request": lifetimes["request"]}),
                ),
                f"{cure}, which ends before the first byte of the answer is sent",
            )


def _commit(factory: Callable[..., Any]) -> tuple[str, int] | None:
    """Give what of a generator commits once its value was used, and in which of its lines."""
    function = written(factory)
    parts = list(ast.walk(function)) if function is not None else []
    handed_out = min((part.lineno for part in parts if isinstance(part, ast.Yield)), default=None)
    if handed_out is None:
        return None
    for part in parts:
        if isinstance(part, ast.With | ast.AsyncWith) and part.lineno <= handed_out <= (part.end_lineno or 0):
            for item in part.items:
                if (name := _method(item.context_expr)) in TRANSACTIONS:
                    return name, item.context_expr.lineno
        if (name := _method(part)) in COMMITS and isinstance(part, ast.Call) and part.lineno > handed_out:
            return name, part.lineno
    return None


def _method(part: ast.AST) -> str:
    """Give the name of the method that an expression calls."""
    return part.func.attr if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) else ""


def _twice_in_a_request(made: Made) -> Iterator[Advice]:
    for node, lifetimes in made.items():
        both = [route for route in lifetimes.get("function", []) if route in lifetimes.get("request", [])]
        if node.resource is None and both:
            yield Advice(
                "two-scopes",
                f"`{node.name}` is taken function-scoped and request-scoped, so that one request makes two of it",
                (*drawn([step_of(node.call)]), *_used_by({"request": both})),
                f'take it everywhere as `Depends({node.name}, scope="function")`, or nowhere',
            )


def _declared_twice(plan: Plan) -> Iterator[Advice]:
    by_factory: dict[int, list[Node]] = {}
    for node in plan.graph.nodes:
        if node.stands_for is None and node is not plan.lifespan and _is_own(node):
            by_factory.setdefault(id(node.factory), []).append(node)
    for nodes in by_factory.values():
        lifetimes = dict.fromkeys(f"{node.lifetime() or 'no'} scope" for node in nodes)
        if len(lifetimes) > 1:
            yield Advice(
                "two-scopes",
                f"`{nodes[0].name}` comes from a factory that is declared at {' and at '.join(lifetimes)}: "
                "what one of them makes is not what the other hands out",
                tuple(line for node in nodes for line in drawn([step_of(node.call)])),
                "declare it once, and take that everywhere",
            )


def _unused(plan: Plan, modules: Iterable[ModuleType]) -> Iterator[Advice]:
    found = {id(value): value for module in modules for value in _resources(module)}
    for resource in found.values():
        is_known = plan.discovery.find(resource) is not None or resource in plan.overrides
        if outlives_requests(resource.scope) and not is_known and is_own(_file(resource.location)):
            yield Advice(
                "unused-resource",
                f"no route takes `{resource.name}`, so that it is not started",
                tuple(drawn([step_of(resource)])),
                f"name it if it is to run, `lifespan(also=[{resource.name}])`, or remove it",
            )


def _resources(module: ModuleType) -> Iterator[Resource[Any]]:
    if is_own(getattr(module, "__file__", None) or ""):
        yield from (value for value in vars(module).values() if isinstance(value, Resource))


def _is_own(node: Node) -> bool:
    return is_own(_file(node.location))


def _file(location: str) -> str:
    return location.rpartition(":")[0]


def _used_by(lifetimes: dict[ScopeName | None, list[str]] | dict[str, list[str]]) -> list[str]:
    routes = list(dict.fromkeys(route for each in lifetimes.values() for route in each))
    more = f" and {len(routes) - SHOWN_USERS} more" if len(routes) > SHOWN_USERS else ""
    return [f"used by {', '.join(routes[:SHOWN_USERS])}{more}"]
