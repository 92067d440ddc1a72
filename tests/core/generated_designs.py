"""Designs of apps, and of requests to them, for Hypothesis to choose from: data only, built by `generated_apps`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import combinations, product
from typing import Any

from fastapi.dependencies import models
from fastapi.params import Depends
from hypothesis import strategies as st

DEPENDENCIES = 12
SPARES = 3
"""How many more there may be that no route takes, only overrides."""
SOLVED = 30
"""How many dependencies FastAPI may have to solve for one: it solves what is taken twice twice."""
ROUTES = 2
REQUESTS = 3

HAS_EVENTS = find_spec("fastapi.sse") is not None
HAS_LIMITS = "max_concurrency" in {field.name for field in fields(Depends)}
AWAITS_PARTIALS = hasattr(models, "_impartial")
"""Older versions of FastAPI take a partial of an async function for a sync one, and never await it."""

GENERATORS = ["generator", "async generator", "generator method", "callable generator", "callable async generator"]
FUNCTIONS = ["function", "async function", "class", "method", "async method", "partial"]
CALLABLES = ["callable", "async callable"]
PARTIALS = ["async partial", "async generator partial"] if AWAITS_PARTIALS else []
CONTEXTS = ["context", "async context"]
WRITTEN = {
    "resource": [*GENERATORS, *GENERATORS[:2], *FUNCTIONS, *CALLABLES, *CONTEXTS, *PARTIALS],
    "plain": [*GENERATORS, *FUNCTIONS, *FUNCTIONS[:2], *CALLABLES, *PARTIALS, "security scheme"],
}
HAVE_ENDS = {*GENERATORS, *CONTEXTS, "async generator partial"}

BEGINNINGS = ["raises before", "refuses before", "waits", "gives nothing", "sets a variable"]
ENDINGS = ["raises after", "refuses after", "swallows", "replaces", "does not yield", "yields twice", "holds a scope"]
HANDLERS = ["answers", "works in the background", "raises", "refuses", "waits", "streams", "streams and waits"]
GENERATING = ["gives lines", "gives events"] if HAS_EVENTS else []
DATA = ["header", "header", "response", "tasks", "query", "cookie", "path", "connection", "scopes", "default"]
HTTP_DATA = [*DATA, "body", "request", "other body"]
LEAVES = ["disconnects", "cancels the task", "cancels the task in a scope", "cancels the scope"]
"""How a client that is waited for leaves, as a server or a middleware tells the app."""
CAN_BE_BAD = ["header", "query", "cookie", "path", "body"]


@dataclass(frozen=True)
class Taking:
    """A parameter that takes a dependency, or a `dependencies=[…]` that has it done: what its `Depends` says."""

    number: int
    use_cache: bool = True
    scope: str | None = None
    security: tuple[str, ...] = ()
    limited: bool = False
    annotated: bool = True


@dataclass(frozen=True)
class Declaration:
    """A dependency: its scope (none is plain), how it is written, what it takes, and what it does."""

    scope: str | None
    written: str
    takes: tuple[Taking, ...] = ()
    data: tuple[str, ...] = ()
    behaviour: str = "works"


@dataclass(frozen=True)
class Layer:
    """A router or a mounted app that stands between the app and a route."""

    kind: str
    dependencies: tuple[Taking, ...] = ()


@dataclass(frozen=True)
class Route:
    """A route: below which layers, what it takes, and what its handler does."""

    takes: tuple[Taking, ...]
    dependencies: tuple[Taking, ...] = ()
    data: tuple[str, ...] = ()
    handler: str = "answers"
    is_sync: bool = False
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Change:
    """A change to the overrides of one of the apps: of nothing in the design, or back to what was, without a number."""

    overridden: int | None
    override: int | None
    app: int = 0


@dataclass(frozen=True)
class Call:
    """A request to a route: what in it is invalid, what changes before it, how its client leaves if it must."""

    route: int = 0
    bad: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    leaves: str = LEAVES[0]
    with_next: bool = False


@dataclass(frozen=True)
class Design:
    """An app, with its last route added before it starts or after, and what is done to it."""

    declarations: tuple[Declaration, ...]
    routes: tuple[Route, ...]
    calls: tuple[Call, ...]
    dependencies: tuple[Taking, ...] = ()
    changes: tuple[Change, ...] = ()
    is_websocket: bool = False
    has_state: bool = True
    describes: bool = False
    handles_errors: bool = False
    last_is_late: bool = False


SCOPES = ["app", "app", "request", "function", None, None]
WAYS_TO_TAKE = [
    *[Taking(0)] * 35,
    *[Taking(0, annotated=False)] * 5,
    *[Taking(0, use_cache=False)] * 10,
    *(
        Taking(0, use_cache, scope, security, limited)
        for use_cache, scope, security, limited in product(
            [True, False], [None, "request", "function"], [(), ("read",), ("read", "write")], {False, HAS_LIMITS}
        )
        if not (security and limited)
    ),
]

LAYERS = [
    *[()] * 4,
    *(each for depth in (1, 2) for each in product(["router", "mounted app", "mounted router"], repeat=depth)),
]


@lru_cache(maxsize=None, typed=True)  # 1 is not True here
def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Choose one; the first is the simplest."""
    return st.sampled_from(values)


@cache
def some_of(count: int, at_least: int, most: int) -> st.SearchStrategy[list[int]]:
    """Choose some out of so many."""
    return st.lists(st.sampled_from(range(count)), min_size=at_least, max_size=most, unique=True)


@cache
def few_of(values: tuple[str, ...], in_hundred: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Choose one or two in so many of a hundred cases, else none."""
    some = [*((each,) for each in values), *(each for each in combinations(values, 2) if each[0] != each[1])]
    return st.sampled_from([()] * (len(some) * (100 - in_hundred) // in_hundred) + some)


class Drawing:
    """A design while it is drawn, which knows what may take what: nothing may hold what lives shorter than itself."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.is_websocket = self.rarely(7)
        self.is_lawless = self.rarely(40)
        self.data = tuple(DATA if self.is_websocket else HTTP_DATA)
        self.declarations: list[Declaration] = []
        self.lives: list[int] = []  # the shortest life of what it holds: 0 for a call, 1 for a request, 2 for an app
        self.starts: list[bool] = []  # whether it may be started with the app
        self.sizes: list[int] = []
        self.overrides: dict[int, int] = {}

    def rarely(self, one_in: int) -> bool:
        """Draw something that is seldom so."""
        return bool(self.draw(one_of(*range(one_in))) == one_in - 1)

    def taking(self, number: int, *, by_request_generator: bool = False) -> Taking:
        """Draw how something is taken."""
        declaration, taking = (
            self.declarations[number],
            replace(self.draw(st.sampled_from(WAYS_TO_TAKE)), number=number),
        )
        if declaration.scope is None and declaration.written in HAVE_ENDS and not self.lives[number]:
            return replace(taking, scope="function")
        if by_request_generator and taking.scope == "function":
            return replace(taking, scope="request")
        return taking

    def takings(
        self, allowed: Sequence[int], *, at_least: int = 0, most: int = 3, by_request_generator: bool = False
    ) -> tuple[Taking, ...]:
        """Draw what is taken of what is allowed, as long as that is not too much to solve."""
        if not allowed:
            return ()
        numbers = [allowed[place] for place in self.draw(some_of(len(allowed), at_least, most))]
        while len(numbers) > 1 and self.solved(numbers) > SOLVED:
            numbers.pop()
        return tuple(self.taking(number, by_request_generator=by_request_generator) for number in numbers)

    def solved(self, numbers: list[int]) -> int:
        """Count what FastAPI solves for these."""
        return sum(self.sizes[number] for number in numbers)

    def declare(self) -> None:
        """Draw one more dependency, which may take those before it."""
        scope = self.draw(one_of(*SCOPES))
        way = self.draw(one_of(*WRITTEN["resource" if scope else "plain"]))
        is_scheme, generates = way == "security scheme", scope is None and way in HAVE_ENDS
        least = {"app": 2, "request": 1, "function": 0}.get(scope, int(generates and not self.rarely(3)))
        before = range(0 if is_scheme else len(self.declarations))
        allowed = [
            n for n in before if self.is_lawless or (self.starts[n] if scope == "app" else self.lives[n] >= least)
        ]
        at_least = int(self.rarely(2))
        takes = self.takings(allowed, at_least=at_least, by_request_generator=generates and least == 1)
        takes_data = (scope != "app" or self.is_lawless) and not is_scheme
        data = self.draw(few_of(self.data, 20)) if takes_data else ()
        wrong = BEGINNINGS + ENDINGS * (way in HAVE_ENDS)
        behaviour = self.draw(one_of(*["works"] * len(wrong) * (80 if scope == "app" else 9), *wrong))
        self.declarations.append(Declaration(scope, way, takes, data, behaviour))
        below = [taken.number for taken in takes]
        held = min([2, *(self.lives[number] for number in below)])
        self.lives.append(least if scope or (generates and held > least) else held)
        self.sizes.append(1 + self.solved(below))
        wants_request = bool(data) or is_scheme
        self.starts.append(scope == "app" or (not scope and not wants_request and all(self.starts[n] for n in below)))

    def route(self, taken: range) -> Route:
        """Draw a route."""
        kinds = self.draw(one_of(*LAYERS))
        layers = tuple(Layer(kind, self.done(taken)) for kind in kinds)
        handler = self.draw(one_of(*["answers"] * 6, *HANDLERS, *GENERATING))
        data = self.draw(few_of(self.data, 30))
        if handler == "works in the background":
            data = tuple(dict.fromkeys([*data, "tasks"]))
        is_sync = not self.is_websocket and handler != "waits" and self.rarely(4)
        takes = self.takings(taken, at_least=1, most=4)
        return Route(takes, self.done(taken), data, handler, is_sync, layers)

    def done(self, taken: range) -> tuple[Taking, ...]:
        """Draw `dependencies=[…]`."""
        return self.takings(taken, at_least=1, most=2) if self.rarely(6) else ()

    def changes(self, apps: int, usually: int) -> tuple[Change, ...]:
        """Draw changes of overrides, none of which makes a circle."""
        if not self.rarely(usually):
            return ()
        return tuple(change for _ in range(self.draw(one_of(1, 2))) for change in self.change(apps))

    def change(self, apps: int) -> Iterator[Change]:
        """Draw one change."""
        app = self.draw(one_of(*range(apps + 1)))
        does = self.draw(one_of("overrides", "overrides", "takes back", "is unrelated"))
        if does == "is unrelated":
            yield Change(None, None, app)
        elif does == "takes back":
            yield Change(self.draw(one_of(*sorted(self.overrides), None)), None, app)
        else:
            number = st.sampled_from(range(len(self.declarations)))
            overridden, override = self.draw(number), self.draw(number)
            if self.sizes[override] < SOLVED / 3 and overridden not in self.reached(override):
                self.overrides[overridden] = override  # it stays here, so that no order of changes makes a circle
                yield Change(overridden, override, app)

    def reached(self, number: int) -> set[int]:
        """Give what a dependency takes, directly or not, under any of the overrides so far."""
        seen, queue = set[int](), [number]
        while queue:
            here = queue.pop()
            if here not in seen:
                seen.add(here)
                queue += [taken.number for taken in self.declarations[here].takes]
                queue += [self.overrides[here]] if here in self.overrides else []
        return seen

    def call(self, routes: int, apps: int, *, has_overrides: bool) -> Call:
        """Draw a request."""
        return Call(
            self.draw(one_of(*range(routes))),
            frozenset(self.draw(few_of(tuple(CAN_BE_BAD), 40))),
            self.changes(apps, 2) if has_overrides else (),
            self.draw(one_of(*LEAVES)),
            self.rarely(5),
        )


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Design an app that breaks no rule, mostly, and requests to it."""
    drawing = Drawing(draw)
    for _ in range(draw(one_of(*range(1, DEPENDENCIES + 1)))):
        drawing.declare()
    taken = range(len(drawing.declarations))
    done = drawing.done(taken)
    routes = tuple(drawing.route(taken) for _ in range(draw(one_of(*range(1, ROUTES + 1)))))
    apps = sum(layer.kind == "mounted app" for route in routes for layer in route.layers)
    if has_overrides := drawing.rarely(2):
        for _ in range(draw(one_of(*range(SPARES + 1)))):
            drawing.declare()
    changes = drawing.changes(apps, 3) if has_overrides else ()
    calls = range(draw(one_of(*range(1, REQUESTS + 1))))
    return Design(
        tuple(drawing.declarations),
        routes,
        tuple(drawing.call(len(routes), apps, has_overrides=has_overrides) for _ in calls),
        done,
        changes,
        drawing.is_websocket,
        has_state=not drawing.rarely(4),
        describes=drawing.rarely(8),
        handles_errors=drawing.rarely(3),
        last_is_late=drawing.rarely(6),
    )
