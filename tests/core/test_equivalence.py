"""Request-time resources against FastAPI's own generators: generated apps that must answer, order and fail alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tenure import lifespan, scoped

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

LARGEST = 7
WRITTEN = ["function", "async function", "generator", "async generator"]
BEHAVIOURS = [
    "works",
    "raises before",
    "refuses before",
    "raises after",
    "refuses after",
    "swallows",
    "replaces",
]
HANDLERS = ["answers", "streams", "has a background task", "raises", "refuses"]

Log = list[tuple[object, ...]]


@dataclass(frozen=True)
class Taking:
    """One parameter: the number of what it takes, and whether one value serves all who take it."""

    number: int
    use_cache: bool = True


@dataclass(frozen=True)
class Declaration:
    """One dependency: how it is written, how long it lives, what it takes, and what goes wrong in it."""

    written: str
    scope: str
    takes: tuple[Taking, ...] = ()
    behaviour: str = "works"


@dataclass(frozen=True)
class Design:
    """The dependencies of an app, each taking only ones before it; its handler; if something else is overridden."""

    declarations: tuple[Declaration, ...]
    handler_takes: tuple[Taking, ...]
    handler: str = "answers"
    websocket: bool = False
    override: bool = False


@st.composite
def takings(draw: st.DrawFn, allowed: list[int], at_least: int = 0) -> tuple[Taking, ...]:
    """Take some of what is allowed, a few of them anew."""
    numbers = draw(st.lists(st.sampled_from(allowed), min_size=at_least, max_size=3, unique=True)) if allowed else []
    return tuple(Taking(number, draw(st.sampled_from([True] * 5 + [False]))) for number in numbers)


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Design an app in which nothing holds what lives shorter, and seldom more than one thing goes wrong."""
    made: list[Declaration] = []
    for number in range(draw(st.integers(1, LARGEST))):
        scope = draw(st.sampled_from(["function", "request"]))
        allowed = [below for below in range(number) if scope == "function" or made[below].scope == "request"]
        behaviour = draw(st.sampled_from(["works"] * 16 + BEHAVIOURS))
        made.append(Declaration(draw(st.sampled_from(WRITTEN)), scope, draw(takings(allowed)), behaviour))
    taken = draw(takings(list(range(len(made))), at_least=1))
    return Design(tuple(made), taken, draw(st.sampled_from(HANDLERS)), draw(st.booleans()), draw(st.booleans()))


class Built:
    """A design as an app, with FastAPI's own means or with resources, and a log of all that happens in it."""

    def __init__(self, design: Design, *, with_resources: bool) -> None:
        self.log: Log = []
        self.design = design
        self.with_resources = with_resources
        self.made = 0
        self.calls: list[Callable[..., Any]] = []
        for number, declaration in enumerate(design.declarations):
            self.calls.append(self.dependency(number, declaration))
        self.app = FastAPI(lifespan=lifespan)
        if design.override:  # FastAPI reads all dependencies anew for each request then
            self.app.dependency_overrides[Built] = Built
        self.add_handler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, noting what is sent when."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self.app(scope, receive, self.noting(send))
        else:
            await self.serve_websocket(scope, receive, send)

    def noting(self, send: Send) -> Send:
        """Note each message before it is sent."""

        async def noted(message: Message) -> None:
            self.log.append(("sends", {key: value for key, value in message.items() if key != "headers"}))
            await send(message)

        return noted

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a websocket whose client sees nothing until all is over: it would cancel what goes on by then."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            await self.app(scope, receive, self.noting(keep))
        except Exception as error:  # noqa: BLE001 (whatever a server would see)
            self.log.append(("fails", type(error).__name__, str(error)))
        for message in [*messages, {"type": "websocket.close", "code": 1006}]:  # by which a server ends it in any case
            await send(message)

    def dependency(self, number: int, declaration: Declaration) -> Callable[..., Any]:
        """Declare one dependency."""
        factory = self.with_parameters(self.factory(number, declaration), declaration.takes)
        scope: Any = declaration.scope
        return scoped(scope, name=f"n{number}")(factory) if self.with_resources else factory

    def factory(self, number: int, declaration: Declaration) -> Callable[..., Any]:
        """Write a factory that gives a number of its own to each value, and tells what it was made of."""

        def function(**taken: Any) -> list[Any]:
            return self.begin(number, declaration, taken)

        async def async_function(**taken: Any) -> list[Any]:
            return self.begin(number, declaration, taken)

        def generator(**taken: Any) -> Iterator[list[Any]]:
            value = self.begin(number, declaration, taken)
            with self.ending(value[:2], declaration.behaviour):
                yield value

        async def async_generator(**taken: Any) -> AsyncIterator[list[Any]]:
            value = self.begin(number, declaration, taken)
            with self.ending(value[:2], declaration.behaviour):
                yield value

        kinds: list[Callable[..., Any]] = [function, async_function, generator, async_generator]
        return {kind.__name__.replace("_", " "): kind for kind in kinds}[declaration.written]

    def begin(self, number: int, declaration: Declaration, taken: dict[str, Any]) -> list[Any]:
        """Make a value, or fail to."""
        self.made += 1
        self.log.append(("enters", number, self.made, taken))
        go_wrong(declaration.behaviour, "before")
        return [number, self.made, *taken.values()]

    @contextmanager
    def ending(self, value: list[Any], behaviour: str) -> Iterator[None]:
        """Note how a value ends, and go wrong there."""
        try:
            yield
        except Exception as error:
            self.log.append(("sees", value, type(error).__name__, str(error)))
            if behaviour == "replaces":
                raise HTTPException(409, "replaced") from error
            if behaviour != "swallows":
                raise
        finally:
            self.log.append(("exits", value))
        go_wrong(behaviour, "after")

    def with_parameters(
        self, function: Callable[..., Any], takes: tuple[Taking, ...], *more: Parameter
    ) -> Callable[..., Any]:
        """Give a function a signature that takes dependencies."""
        target: Any = function
        target.__signature__ = Signature([*more, *(self.parameter(taking) for taking in takes)])
        return target  # type: ignore[no-any-return]

    def parameter(self, taking: Taking) -> Parameter:
        """Make the parameter that takes a dependency: FastAPI's own says there how long it lives."""
        scope: Any = None if self.with_resources else self.design.declarations[taking.number].scope
        mark = Depends(self.calls[taking.number], scope=scope, use_cache=taking.use_cache)
        return Parameter(f"n{taking.number}", Parameter.KEYWORD_ONLY, annotation=Annotated[Any, mark])

    def add_handler(self) -> None:
        """Add the one handler."""

        async def handler(tasks: BackgroundTasks, **taken: Any) -> Any:
            self.log.append(("handles", taken))
            go_wrong(self.design.handler, "")
            if self.design.handler == "has a background task":
                tasks.add_task(self.log.append, ("works in the background",))
            if self.design.handler == "streams":
                return StreamingResponse(self.streamed())
            return taken

        async def socket(websocket: WebSocket, **taken: Any) -> None:
            await websocket.accept()
            self.log.append(("handles", taken))
            await websocket.send_json(taken)
            go_wrong(self.design.handler, "")
            await websocket.close()

        tasks = Parameter("tasks", Parameter.KEYWORD_ONLY, annotation=BackgroundTasks)
        websocket = Parameter("websocket", Parameter.KEYWORD_ONLY, annotation=WebSocket)
        self.app.add_api_route("/http", self.with_parameters(handler, self.design.handler_takes, tasks))
        self.app.add_api_websocket_route("/ws", self.with_parameters(socket, self.design.handler_takes, websocket))

    async def streamed(self) -> AsyncIterator[str]:
        """Send a body in two parts."""
        for part in ("one", "two"):
            self.log.append(("streams", part))
            yield part


def go_wrong(behaviour: str, when: str) -> None:
    """Raise, or refuse with an answer, if that is the behaviour at this time."""
    if behaviour == f"raises {when}".strip():
        msg = f"raised {when}"
        raise LookupError(msg)
    if behaviour == f"refuses {when}".strip():
        raise HTTPException(418, f"refused {when}")


def outcome(built: Built) -> tuple[Any, Log]:
    """Send two requests, and give what came of them and what happened."""
    with TestClient(built) as client:
        return [attempt(client, built.design) for _ in range(2)], built.log


def attempt(client: TestClient, design: Design) -> Any:
    """Send one request, and give the answer or the error of the server."""
    try:
        if design.websocket:
            with client.websocket_connect("/ws") as connected:
                return connected.receive_json()
        answer = client.get("/http")
    except Exception as error:  # noqa: BLE001 (whatever a client or a server would see)
        return type(error).__name__, str(error), getattr(error, "code", None), getattr(error, "status_code", None)
    return answer.status_code, answer.text


def check_alike(design: Design) -> None:
    """Check that an app with resources is not to be told from the same app with FastAPI's generators."""
    assert outcome(Built(design, with_resources=True)) == outcome(Built(design, with_resources=False))


@given(designs())
@settings(max_examples=200, deadline=None)
def test_resources_behave_as_fastapis_own_generators_do(design: Design) -> None:
    """Answers, sharing, order of enter and exit and send, and all errors are FastAPI's own."""
    wrong = {each.behaviour for each in design.declarations} - {"works"}
    kind, state = "websocket" if design.websocket else "HTTP", "something goes wrong" if wrong else "all works"
    event(f"{kind} {design.handler}, {state}")
    check_alike(design)


@pytest.mark.parametrize("websocket", [False, True], ids=["HTTP", "websocket"])
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("scope", ["function", "request"])
@pytest.mark.parametrize("written", ["generator", "async generator"])
def test_each_way_to_fail_is_fastapis_own(
    written: str,
    scope: str,
    behaviour: str,
    handler: str,
    websocket: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    """Each way in which a generator or a handler goes wrong is seen alike by what is below it and by the client."""
    below = Declaration("async generator", "request")
    middle = Declaration(written, scope, (Taking(0),), behaviour)
    above = Declaration("async generator", "function", (Taking(1),))
    check_alike(Design((below, middle, above), (Taking(2), Taking(1)), handler, websocket))


def entered(with_resource: bool) -> int:  # noqa: FBT001
    """Count how often one dependency is entered that is taken with and without `scope="function"`."""
    count = 0

    async def session() -> AsyncIterator[int]:
        nonlocal count
        count += 1
        yield count

    call = scoped("request")(session) if with_resource else session
    app = FastAPI(lifespan=lifespan)

    def both(one: int = Depends(call), other: int = Depends(call, scope="function")) -> list[int]:
        return [one, other]

    app.add_api_route("/", both)
    with TestClient(app) as client:
        assert client.get("/").json() == ([1, 1] if with_resource else [1, 2])
    return count


def test_a_resource_is_one_however_it_is_taken() -> None:
    """Where FastAPI has a second value, for `Depends(x, scope="function")`, a resource has the one of its scope."""
    assert (entered(with_resource=True), entered(with_resource=False)) == (1, 2)
