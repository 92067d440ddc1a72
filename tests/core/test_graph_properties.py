"""Generated graphs: every bad one is refused with its code and its path, no good one is, and the good ones run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from inspect import Parameter, Signature
from itertools import pairwise
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header
from fastapi.testclient import TestClient
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tenure import lifespan, scoped
from tenure.errors import Finding, PlanError

LARGEST = 12
RANK = {"function": 0, "request": 1, "app": 2}

Edge = tuple[int, str | None]
"""The number of a dependency that is taken, and the `scope=` of its `Depends`."""


@dataclass(frozen=True)
class Declaration:
    """One dependency: how it is written, its scope if it is a resource, what it takes, if it reads a header."""

    written: str
    scope: str | None = None
    takes: tuple[Edge, ...] = ()
    reads_header: bool = False


@dataclass(frozen=True)
class Design:
    """The dependencies of an app, each taking only ones before it; the routes; and which override stands for which."""

    declarations: tuple[Declaration, ...]
    routes: tuple[tuple[Edge, ...], ...]
    overrides: dict[int, Declaration] = field(default_factory=dict)

    def effective(self) -> Design:
        """Give the design with its overrides: one of a started resource starts if it needs no request."""
        changed = [
            replace(self.overrides[n], scope=None) if n in self.overrides else d
            for n, d in enumerate(self.declarations)
        ]

        def needs_request(number: int, seen: frozenset[int]) -> bool:
            here = changed[number]
            if number in seen or here.scope == "app":
                return False
            below = (needs_request(taken, seen | {number}) for taken, _ in here.takes)
            return here.scope is not None or here.reads_header or any(below)

        started = [
            n for n in self.overrides if self.declarations[n].scope == "app" and not needs_request(n, frozenset())
        ]
        for number in started:
            changed[number] = replace(changed[number], scope="app")
        return Design(tuple(changed), self.routes)


# --- what is generated ------------------------------------------------------------------------------------------------


@st.composite
def edges(draw: st.DrawFn, below: int, *, at_least: int = 0) -> tuple[Edge, ...]:
    """Take some of the dependencies below a number, some of them with `scope="function"`."""
    taken = draw(st.lists(st.integers(0, below - 1), min_size=at_least, max_size=3, unique=True)) if below else []
    return tuple((number, draw(st.sampled_from([None, None, None, "function"]))) for number in taken)


@st.composite
def declarations(draw: st.DrawFn, below: int) -> Declaration:
    """Declare a dependency of any kind."""
    return Declaration(
        draw(st.sampled_from(["function", "async function", "generator", "async generator"])),
        draw(st.sampled_from([None, None, "function", "request", "app", "app"])),
        draw(edges(below)),
        draw(st.sampled_from([False] * 7 + [True])),
    )


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Design an app that FastAPI itself accepts."""
    size = draw(st.integers(1, LARGEST))
    made = [draw(declarations(number)) for number in range(size)]
    routes = tuple(draw(edges(size, at_least=1)) for _ in range(draw(st.integers(1, 3))))
    return without_fastapis_refusals(Design(tuple(made), routes))


def without_fastapis_refusals(design: Design) -> Design:
    """FastAPI refuses `Depends(…, scope="function")` in a generator that ends with the request; leave that out."""
    for number in reversed(range(len(design.declarations))):
        here = design.declarations[number]
        taken = {how for edge in all_edges(design) for target, how in [edge] if target == number}
        if here.scope is None and "generator" in here.written and taken != {"function"}:
            changed = replace(here, takes=tuple((target, None) for target, _ in here.takes))
            design = replace(
                design, declarations=(*design.declarations[:number], changed, *design.declarations[number + 1 :])
            )
    return design


def all_edges(design: Design) -> Iterator[Edge]:
    """Give everything that is taken anywhere."""
    for route in design.routes:
        yield from route
    for declaration in (*design.declarations, *design.overrides.values()):
        yield from declaration.takes


@st.composite
def overridden_designs(draw: st.DrawFn) -> Design:
    """Design an app with overrides that may take anything, and so may close a circle."""
    design = draw(designs())
    size = len(design.declarations)
    numbers = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3, unique=True))
    takes = st.lists(st.integers(0, size - 1), max_size=2, unique=True)
    overrides = {n: Declaration("async function", None, tuple((t, None) for t in draw(takes))) for n in numbers}
    return without_fastapis_refusals(replace(design, overrides=overrides))


# --- the oracle: all paths, one by one --------------------------------------------------------------------------------

Verdict = tuple[str, int, int]
"""A code, who is at fault and by what: the first and the last dependency of the path."""


def reachable(design: Design) -> set[int]:
    """Give everything that a route needs."""
    found = {number for route in design.routes for number, _ in route}
    while more := {number for taker in found for number, _ in design.declarations[taker].takes} - found:
        found |= more
    return found


def circular(design: Design) -> set[int]:
    """Give everything that needs itself."""
    below = {number: {target for target, _ in design.declarations[number].takes} for number in reachable(design)}
    for middle, through in below.items():
        for needed in below.values():
            if middle in needed:
                needed |= through  # noqa: PLW2901 (the set itself)
    return {number for number, needed in below.items() if number in needed}


def lifetime(declaration: Declaration, how: str | None) -> str | None:
    """Tell how long a value lives where it is taken so; nothing for what keeps nothing open."""
    plain = (how or "request") if "generator" in declaration.written else None
    return declaration.scope or plain


def verdicts(design: Design) -> set[Verdict]:
    """Say what is wrong with a design, by following each path to its end."""
    circle = circular(design)
    if circle:
        return {("dependency-cycle", number, number) for number in circle}
    found: set[Verdict] = set()
    everything = reachable(design)
    taken = [edge for route in design.routes for edge in route]
    taken += [edge for number in everything for edge in design.declarations[number].takes]
    for holder, how in taken:
        if scope := lifetime(design.declarations[holder], how):
            found |= held(design, holder, holder, scope)
    return found


def held(design: Design, holder: int, here: int, scope: str) -> set[Verdict]:
    """Say what is wrong with what a holder holds at `here` and below."""
    declaration = design.declarations[here]
    found: set[Verdict] = {("request-data", holder, here)} if scope == "app" and declaration.reads_header else set()
    for number, how in declaration.takes:
        target = design.declarations[number]
        lives = lifetime(target, how)
        if scope == "app" and target.scope is None:
            found |= held(design, holder, number, scope)  # a plain one starts with the app, whatever it is
        elif lives is None:
            found |= held(design, holder, number, scope)
        elif RANK[lives] < RANK[scope]:
            found.add(("captive-dependency", holder, number))
    return found


# --- the app ----------------------------------------------------------------------------------------------------------


class Built:
    """A design as an app, with a log of what opened and closed."""

    def __init__(self, design: Design) -> None:
        self.log: list[tuple[str, int]] = []
        self.calls: list[Callable[..., Any]] = []
        for number, declaration in enumerate(design.declarations):
            self.calls.append(self.dependency(number, declaration))
        self.app = FastAPI(lifespan=lifespan)
        for number, route in enumerate(design.routes):
            self.app.add_api_route(f"/{number}", self.with_parameters(self.answer, route))
        for number, override in design.overrides.items():
            self.app.dependency_overrides[self.calls[number]] = self.factory(number, override)

    def answer(self, **taken: list[int]) -> list[int]:
        """Answer with the numbers of all that a route needs."""
        return sorted({number for numbers in taken.values() for number in numbers})

    def dependency(self, number: int, declaration: Declaration) -> Callable[..., Any]:
        """Declare one dependency."""
        made = self.factory(number, declaration)
        scope: Any = declaration.scope
        return made if scope is None else scoped(scope)(made)

    def factory(self, number: int, declaration: Declaration) -> Callable[..., Any]:
        """Write a factory whose value is the numbers of all that it needs, and its own."""

        def begin(taken: dict[str, Any]) -> list[int]:
            self.log.append(("open", number))
            return self.answer(own=[number], **{name: value for name, value in taken.items() if name != "header"})

        def function(**taken: Any) -> list[int]:
            return begin(taken)

        async def async_function(**taken: Any) -> list[int]:
            return begin(taken)

        def generator(**taken: Any) -> Iterator[list[int]]:
            yield begin(taken)
            self.log.append(("close", number))

        async def async_generator(**taken: Any) -> AsyncIterator[list[int]]:
            yield begin(taken)
            self.log.append(("close", number))

        kinds: list[Callable[..., Any]] = [function, async_function, generator, async_generator]
        made = {kind.__name__.replace("_", " "): kind for kind in kinds}[declaration.written]
        made.__name__ = f"n{number}"
        return self.with_parameters(made, declaration.takes, header=declaration.reads_header)

    def with_parameters(
        self, function: Callable[..., Any], takes: tuple[Edge, ...], *, header: bool = False
    ) -> Callable[..., Any]:
        """Give a function a signature that takes dependencies, which may be declared later."""

        def call(**taken: Any) -> Any:
            return function(**taken)

        target: Any = call if function == self.answer else function
        parameters = [self.parameter(number, how) for number, how in takes]
        if header:
            parameters.append(Parameter("header", Parameter.KEYWORD_ONLY, annotation=Annotated[str, Header()]))
        target.__signature__ = Signature(parameters)
        return target  # type: ignore[no-any-return]

    def parameter(self, number: int, how: Any) -> Parameter:
        """Make the parameter that takes a dependency."""
        annotation = Annotated[Any, Depends(self.calls[number], scope=how)]
        return Parameter(f"n{number}", Parameter.KEYWORD_ONLY, annotation=annotation)


def findings(built: Built) -> tuple[Finding, ...]:
    """Start and stop an app, and give what was found wrong with it; nothing was opened then."""
    try:
        with TestClient(built.app):
            return ()
    except PlanError as report:
        assert built.log == []
        return report.findings


def path(finding: Finding) -> list[str]:
    """Give the names on a finding's path."""
    return [line.lstrip(" └").split()[0] for line in finding.path if not line.startswith("used by")]


def verdict(finding: Finding) -> Verdict:
    """Give a finding as the oracle puts it."""
    numbers = [int(name[1:]) for name in path(finding) if name[0] == "n"]
    return (finding.code, numbers[0], numbers[-1])


def check_paths(design: Design, found: tuple[Finding, ...]) -> None:
    """Check that each step of each path is one that the design has."""
    for finding in found:
        names = [name for name in path(finding) if name[0] == "n"]
        for taker, taken in pairwise(names):
            assert int(taken[1:]) in {number for number, _ in design.declarations[int(taker[1:])].takes}


def check_verdict(design: Design) -> bool:
    """Check that tenure refuses what the oracle does, for the same reasons, and tell whether it is good."""
    effective = design.effective()
    found = findings(Built(design))
    expected = verdicts(effective)
    check_paths(effective, found)
    event(", ".join(sorted({code for code, *_ in expected})) or "good")
    told = {verdict(finding) for finding in found}
    if any(code == "dependency-cycle" for code, *_ in expected):
        assert {code for code, *_ in told} == {"dependency-cycle"}
        assert told <= expected  # each circle is told once, at one of those who are in it
    else:
        assert told == expected
    return not expected


def check_running(design: Design) -> None:
    """Check that a good app answers each route with all that it needs, and opens and closes in the order of need."""
    built = Built(design)
    effective = design.effective()
    with TestClient(built.app, headers={"header": "x"}) as client:
        started = list(built.log)
        for number, route in enumerate(design.routes):
            only = Design(effective.declarations, (route,))
            assert client.get(f"/{number}").json() == sorted(reachable(only))
        del built.log[:]
    below_app = [number for action, number in started if action == "open"]
    assert sorted(below_app) == sorted(expected_to_start(effective))
    assert_ordered(effective, below_app)
    closed = [number for action, number in built.log if action == "close"]
    assert sorted(closed) == sorted(n for n in below_app if "generator" in effective.declarations[n].written)
    assert_ordered(effective, closed[::-1])


def expected_to_start(design: Design) -> set[int]:
    """Give what starts with the app: its app-scoped resources that a route needs, and all that these need."""
    roots = tuple((number, None) for number in reachable(design) if design.declarations[number].scope == "app")
    return reachable(Design(design.declarations, (roots,)))


def assert_ordered(design: Design, order: list[int]) -> None:
    """Check that everything comes after what it needs."""
    for position, number in enumerate(order):
        needed = reachable(Design(design.declarations, (design.declarations[number].takes,)))
        assert needed & set(order) <= set(order[:position])


@given(designs())
@settings(max_examples=150, deadline=None)
def test_a_graph_is_refused_when_it_is_bad_and_runs_when_it_is_good(design: Design) -> None:
    """Every captive dependency and use of request data is found, with its path; what has none starts and serves."""
    if check_verdict(design):
        check_running(design)


@given(overridden_designs())
@settings(max_examples=150, deadline=None)
def test_overrides_are_part_of_the_graph(design: Design) -> None:
    """The graph is judged with its overrides in place: those that close a circle, or hold too long, are refused."""
    if check_verdict(design):
        check_running(design)
