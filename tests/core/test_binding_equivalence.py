"""Bound apps against unbound ones: generated apps and requests that must answer, order, share and fail alike."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import fastapi.routing
import pytest
from anyio import CancelScope
from fastapi.dependencies import utils
from hypothesis import HealthCheck, Phase, event, given, seed, settings

from tenure.fastapi import binding
from tests.core.generated_apps import Built
from tests.core.generated_dependencies import Record, here, note, told_error
from tests.core.generated_designs import Call, Change, Declaration, Design, Layer, Route, Taking, designs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message

ROUNDS = int(os.environ.get("TENURE_FUZZ_ROUNDS", "8"))
EXAMPLES = 250
"""How many designs are tried in each round; `make fuzz` has more rounds."""
PHASES = set(Phase) - {Phase.explain}  # which runs each failure under a tracer, for minutes


class Bound:
    """Counts how often binding had a bound route to give."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture(scope="module")
def bound() -> Iterator[Bound]:
    """The count of bound routes that were used."""
    bound, route = Bound(), binding.Binding.route

    def counted(self: binding.Binding, dependant: Any, provider: Any) -> Any:
        found = route(self, dependant, provider)
        bound.count += found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding.Binding, "route", counted)
        yield bound


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all examples."""
    with asyncio.Runner() as runner:
        yield runner


async def outcome(design: Design, setting: str) -> list[Any]:
    """Build an app, start it bound or unbound, do to it what the design says, and give all that happened."""
    try:
        built = Built(design)
    except Exception as error:  # noqa: BLE001 (whatever FastAPI refuses)
        return [[("not built", told_error(error))]]
    records: list[Record] = []
    for change in design.changes:
        if change.app < len(built.apps):  # a late one is not there yet
            built.change(change)
    here.set(built.record)
    built.record.client_left.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENURE_BINDING", setting)
        try:
            async with built.app.router.lifespan_context(built.app) as state:
                await serve(built, design, state if design.has_state else None, records)
                if design.describes:
                    note("describes", *(json.dumps(app.openapi()) for app in built.apps))
        except Exception as error:  # noqa: BLE001 (whatever a server would see)
            note("fails", told_error(error))
    assert fastapi.routing.solve_dependencies is utils.solve_dependencies
    # What starts and stops at once does so in no certain order.
    return [sorted(built.record.log, key=repr), *(record.log for record in records)]


async def serve(built: Built, design: Design, state: Any, records: list[Record]) -> None:
    """Send the requests, some of them at once."""
    if design.last_is_late:
        built.add_route()
    together: list[asyncio.Task[None]] = []
    for number, call in enumerate(design.calls):
        if not together:
            for change in call.changes:
                built.change(change)
        records.append(Record(f"request {number}"))
        together.append(asyncio.create_task(send(built, design, call, state, records[-1])))
        if not call.with_next or number == len(design.calls) - 1:
            await asyncio.gather(*together)
            together.clear()


async def send(built: Built, design: Design, call: Call, state: Any, record: Record) -> None:
    """Send one request, and leave when it waits for that."""
    here.set(record)
    scope = scope_of(design.is_websocket, built.paths[call.route], call)
    if state is not None:
        scope["state"] = dict(state)
    messages = opening(design.is_websocket, call)

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await record.client_left.wait()
        return {"type": "websocket.disconnect" if design.is_websocket else "http.disconnect"}

    async def send(message: Message) -> None:
        note("sends", {key: value for key, value in message.items() if value})

    around = CancelScope()

    async def serve() -> None:
        try:
            with around if call.leaves.endswith("scope") else nullcontext():
                await built.app(scope, receive, send)
        except BaseException as error:  # noqa: BLE001 (whatever a server would see)
            note("fails", told_error(error))

    serving, waiting = asyncio.create_task(serve()), asyncio.create_task(record.waits.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        note("leaves")
        record.client_left.set()
        if call.leaves == "cancels the scope":
            around.cancel()
        elif call.leaves != "disconnects" or not record.is_streaming:  # nothing else listens for that
            serving.cancel()
    waiting.cancel()
    await serving
    note("knows", sorted(scope))


def scope_of(is_websocket: bool, path: str, call: Call) -> dict[str, Any]:  # noqa: FBT001 (a design's own)
    """Describe a request as a server does."""
    values = {kind: "x" if kind in call.bad else "5" for kind in ("header", "query", "cookie", "path")}
    headers = [(b"x-number", values["header"].encode()), (b"cookie", f"cookie={values['cookie']}".encode())]
    headers.append((b"content-type", b"application/json"))
    full = f"{path}/{values['path']}"
    kind = {"type": "websocket", "subprotocols": []} if is_websocket else {"type": "http", "method": "POST"}
    return {
        **kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws" if is_websocket else "http",
        "path": full,
        "raw_path": full.encode(),
        "query_string": f"query={values['query']}".encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


def opening(is_websocket: bool, call: Call) -> list[Message]:  # noqa: FBT001 (a design's own)
    """Give what a client sends."""
    if is_websocket:
        return [{"type": "websocket.connect"}]
    body = {"body": {"size": 3}, "other_body": {"size": 4}, "size": "x" if "body" in call.bad else 2}
    return [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]


def binds_surely(design: Design) -> bool:
    """Tell whether a route is bound for sure, on any version of FastAPI: it takes nothing but what the app starts."""
    starts = {number for number, each in enumerate(design.declarations) if each.scope == "app"}
    route = design.routes[design.calls[0].route]
    taken = [*design.dependencies, *route.dependencies, *route.takes]
    taken += [taking for layer in route.layers for taking in layer.dependencies]
    if design.last_is_late:
        return False
    no_overrides = not design.changes and not any(call.changes for call in design.calls)
    return no_overrides and all(each.number in starts and not each.security and not each.limited for each in taken)


async def check_alike(design: Design, bound: Bound) -> int:
    """Check that an app is not to be told from the same app unbound, and give how often it was bound."""
    before = bound.count
    with_binding = await asyncio.create_task(outcome(design, "on"))
    used = bound.count - before
    without = await asyncio.create_task(outcome(design, "off"))
    assert bound.count == before + used
    assert with_binding == without
    assert used or not binds_surely(design) or not says(with_binding, "handles")
    return used


def says(outcome: list[Any], what: str) -> bool:
    """Tell whether something happened in a request."""
    return any(line[0] == what for log in outcome[1:] for line in log)


@pytest.mark.timeout(300)  # seconds, for when one fails: finding the simplest of those that do takes longer
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_bound_app_is_not_to_be_told_from_an_unbound_one(number: int, bound: Bound, runner: asyncio.Runner) -> None:
    """Answers, sharing, order of enter and exit and send, errors and the request's scope are the same."""

    @settings(max_examples=EXAMPLES, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
    @given(designs())
    def alike(design: Design) -> None:
        event("bound" if runner.run(check_alike(design, bound)) else "not bound")

    if os.environ.get("CI"):  # the same examples each time, and others in each round
        alike = seed(number)(alike)
    alike()


APP, FUNCTION = Declaration("app", "async generator"), Declaration("function", "async generator", (Taking(0),))
OTHER = Declaration("request", "generator")
ASYNC = Declaration("request", "async generator")
ANEW = Declaration(None, "async function", (Taking(1, use_cache=False),), ("header",))
AGAIN = Declaration(None, "async function", (Taking(1),), ("header",))
PAIR = Declaration("function", "async generator", (Taking(1, scope="function"), Taking(2), Taking(0)))
PLAIN = Declaration(None, "async generator")
TAKING_ANEW = Declaration(None, "async function", (Taking(1, use_cache=False),))
ANSWERING = Declaration(None, "async function", data=("header", "response", "tasks"))
KNOWN = {
    "a constant": (Design((APP,), (Route((Taking(0),)),), (Call(),)), 1),
    "a constant beside data": (Design((APP,), (Route((Taking(0),), data=("query",)),), (Call(), Call())), 2),
    "a step": (Design((APP, FUNCTION), (Route((Taking(1),)),), (Call(),)), 1),
    "a websocket": (Design((APP, FUNCTION), (Route((Taking(1),)),), (Call(),), is_websocket=True), 1),
    "a mounted app": (Design((APP,), (Route((Taking(0),), layers=(Layer("mounted app"),)),), (Call(),)), 1),
    "a late route": (Design((APP,), (Route((Taking(0),)),) * 2, (Call(route=1),), last_is_late=True), 1),
    "a router": (Design((APP,), (Route((Taking(0),), layers=(Layer("router"),)),), (Call(),)), 1),
    "an unrelated override": (Design((APP,), (Route((Taking(0),)),), (Call(changes=(Change(None, None),)),)), 1),
    "an override that was not started": (
        Design((APP, APP), (Route((Taking(0),)),), (Call(), Call(changes=(Change(0, 1),)), Call())),
        1,
    ),
    "an override that comes and goes": (
        Design(
            (APP, OTHER),
            (Route((Taking(0),)),),
            (Call(), Call(changes=(Change(0, 1),)), Call(changes=(Change(0, None),))),
        ),
        2,
    ),
    "data before and after a step": (
        Design(
            (APP, FUNCTION, ANSWERING, ANSWERING),
            (Route((Taking(2), Taking(1), Taking(3)), data=("header", "tasks")),),
            (Call(), Call(bad=frozenset({"header"}))),
        ),
        2,
    ),
    "requests at once": (
        Design((APP, FUNCTION, ASYNC, PAIR, ASYNC), (Route((Taking(4), Taking(3))),), (Call(with_next=True), Call())),
        2,
    ),
    "inputs that are made again": (
        Design((APP, PLAIN, TAKING_ANEW), (Route((Taking(0), Taking(2)), (Taking(2),)),), (Call(),)),
        1,
    ),
    "a resource with and without its cache": (
        Design((APP, OTHER, ANEW, AGAIN), (Route((Taking(0), Taking(1), Taking(2), Taking(3))),), (Call(),)),
        1,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_should_be_bound_is_bound(name: str, bound: Bound, runner: asyncio.Runner) -> None:
    """Designs of each kind are bound as often as they should be, so that not two unbound apps are compared."""
    design, times = KNOWN[name]
    assert runner.run(check_alike(design, bound)) == times
