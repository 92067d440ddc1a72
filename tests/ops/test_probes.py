"""`/livez` and `/readyz`: what a balancer or Kubernetes is told, whatever state the app is in."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException

from tenure import Resource, lifespan, running, scoped
from tenure.ops import Degraded, ops_router
from tests.ops.asking import answer_of, app_of, client_of, served

if TYPE_CHECKING:
    import httpx

    from tenure.checks import Verdict

OFTEN = 0.05
PROBES = ("/livez", "/readyz")
NOT_STARTED = "the app was not started by tenure's lifespan in this process and event loop"


class Switch:
    """What a check says, as a test has it."""

    says: Verdict = True


def switched(switch: Switch, **words: Any) -> Resource[Switch]:  # what `health` takes
    """Declare a resource whose check says what a switch says."""
    resource = scoped("app", name="database")(lambda: switch)
    resource.health(**{"every": OFTEN, "critical": True, **words})(lambda switch: switch.says)
    return resource


def is_ready(answer: httpx.Response) -> bool:
    """Tell whether the app is to get requests."""
    return answer.status_code == 200


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_probe_answers_get_and_head(probe: str, method: str) -> None:
    """Neither answer is stored by anyone on the way, and each is of the type that health+json has."""
    async with served(app_of()) as client:
        answer = await client.request(method, probe)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/health+json"
    assert "retry-after" not in answer.headers
    assert method == "HEAD" or answer.json() == {"status": "pass"}


async def test_a_critical_check_that_fails_takes_the_app_out() -> None:
    """503 says so, and when to ask again; once the check passes, so does the probe."""
    async with served(app_of(switched(switch := Switch()))) as client:
        await answer_of(client, "/readyz", is_ready)
        switch.says = False
        answer = await answer_of(client, "/readyz", lambda answer: answer.status_code == 503)
        assert answer.json() == {"status": "fail"}
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["retry-after"]) > 0
        assert (await client.head("/readyz")).status_code == 503
        switch.says = True
        await answer_of(client, "/readyz", is_ready)


@pytest.mark.parametrize(
    ("says", "critical"), [(Degraded("slow"), True), (False, False)], ids=["critical-degraded", "not-critical-failed"]
)
async def test_what_is_no_reason_to_take_the_app_out_is_a_warning(says: Verdict, *, critical: bool) -> None:
    """A degraded resource, and a failing one that is not critical, leave it at 200."""
    async with served(app_of(switched(switch := Switch(), critical=critical))) as client:
        switch.says = says
        answer = await answer_of(client, "/readyz", lambda answer: answer.json()["status"] == "warn")
        assert answer.status_code == 200


async def test_liveness_asks_for_nothing_that_is_shared() -> None:
    """A database that is away is no reason to start all processes anew: `/livez` passes while `/readyz` fails."""
    async with served(app_of(switched(switch := Switch()))) as client:
        switch.says = False
        await answer_of(client, "/readyz", lambda answer: answer.status_code == 503)
        answer = await client.get("/livez?verbose")
    assert answer.status_code == 200
    assert answer.text == "[+]app ok\n[+]eventLoop ok\nlivez check passed\n"


async def test_an_app_is_not_ready_before_its_critical_checks_are_known() -> None:
    """Until the first result there is no reason to think that it is well; a check that is not critical can wait."""
    may_answer = asyncio.Event()
    resource = scoped("app", name="database")(lambda: 1)

    @resource.health(critical=True, timeout=20)
    async def check(value: int) -> None:
        await may_answer.wait()

    @resource.health(name="other", timeout=20)
    async def other(value: int) -> None:
        await asyncio.Event().wait()

    async with served(app_of(resource)) as client:
        assert (await client.get("/readyz")).status_code == 503
        may_answer.set()
        assert (await answer_of(client, "/readyz", is_ready)).json() == {"status": "pass"}


async def test_a_loop_that_is_held_up_is_a_warning(development: None) -> None:
    """What blocks an event loop holds up all requests: `/livez` tells by how much, and does not fail for it."""
    async with served(app_of()) as client:
        await client.get("/livez")
        time.sleep(0.9)  # noqa: ASYNC251 (what it is about)
        answer = await answer_of(client, "/livez", lambda answer: answer.json()["status"] == "warn")
    told = answer.json()["checks"]["eventLoop:lag"][0]
    assert answer.status_code == 200
    assert told["observedValue"] > 500
    assert told["observedUnit"] == "ms"
    assert told["output"] == "something holds up the event loop: see what blocks in it"


# --- the text ---------------------------------------------------------------------------------------------------------


async def test_the_text_is_that_of_kubernetes() -> None:
    """A line for each check, without the reasons, which may be anyone's secrets."""
    async with served(app_of(switched(switch := Switch(), name="rows"))) as client:
        well = await answer_of(client, "/readyz?verbose", lambda answer: "[+]rows ok" in answer.text)
        switch.says = Degraded("replica lags 30 s")
        lagging = await answer_of(client, "/readyz?verbose", lambda answer: "degraded" in answer.text)
        switch.says = False
        failing = await answer_of(client, "/readyz?verbose", lambda answer: answer.status_code == 503)
    assert well.headers["content-type"] == "text/plain; charset=utf-8"
    assert well.text == "[+]app ok\n[+]rows ok\nreadyz check passed\n"
    assert lagging.text == "[+]app ok\n[+]rows degraded: reason withheld\nreadyz check passed\n"
    assert failing.text == "[+]app ok\n[-]rows failed: reason withheld\nreadyz check failed\n"


async def test_a_check_can_be_left_out() -> None:
    """`?exclude=` leaves out what is known to be away; one that does not exist is told of, and changes nothing."""
    async with served(app_of(switched(switch := Switch()))) as client:
        switch.says = False
        await answer_of(client, "/readyz", lambda answer: answer.status_code == 503)
        assert (await client.get("/readyz?exclude=database")).json() == {"status": "pass"}
        strange = await client.get("/readyz?exclude=databse&verbose")
        assert strange.status_code == 503
        assert "warn: there is no check databse to leave out\n" in strange.text
        both = await client.get("/readyz?exclude=databse&exclude=database")
        assert both.status_code == 200


async def test_one_check_can_be_asked_for() -> None:
    """Its own status is told, critical or not; one that does not exist is 404, with those that do."""
    async with served(app_of(switched(switch := Switch(), critical=False))) as client:
        assert (await client.get("/readyz/database")).status_code == 200
        switch.says = False
        answer = await answer_of(client, "/readyz/database?verbose", lambda answer: answer.status_code == 503)
        assert answer.text == "[+]app ok\n[-]database failed: reason withheld\nreadyz/database check failed\n"
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.head("/readyz/database")).status_code == 503
        strange = await client.get("/readyz/databse")
    assert strange.status_code == 404
    assert strange.json()["output"] == "there is no check 'databse'; there are database"


# --- the states of an app ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PROBES, "/readyz?verbose", "/readyz/database"])
async def test_an_app_that_was_not_started_says_so(path: str) -> None:
    """A probe that reaches an app without tenure's lifespan is 503 and names the reason, not 500."""
    app = FastAPI()
    app.include_router(ops_router())
    async with client_of(app) as client, app.router.lifespan_context(app):
        answer = await client.get(path)
    assert answer.status_code == 503
    assert NOT_STARTED in answer.text
    assert answer.headers["retry-after"] == "1"


async def test_before_its_start_and_after_its_stop_an_app_is_not_ready() -> None:
    """As in a test that forgets to run it, or a server that serves on."""
    async with client_of(app := app_of()) as client:
        assert (await client.get("/readyz")).json() == {"status": "fail", "output": NOT_STARTED}
        async with running(app):
            assert (await client.get("/readyz")).status_code == 200
        after = await client.get("/readyz")
        assert (after.status_code, after.json()["output"]) == (503, "the app has stopped")
        async with running(app):
            assert (await client.get("/readyz")).status_code == 200


async def test_an_app_that_starts_in_the_background_lives_and_is_not_ready() -> None:
    """What it waits for is told by name, in the text too."""
    may_start = asyncio.Event()

    @scoped("app")
    async def model() -> str:
        await may_start.wait()
        return "model"

    app = FastAPI(lifespan=lifespan(also=[model], start="background"))
    app.include_router(ops_router())
    async with client_of(app) as client, app.router.lifespan_context(app):
        assert (await client.get("/livez")).status_code == 200
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["output"] == "the app is starting"
        assert "model" in answer.json()["pending"]
        text = await answer_of(client, "/readyz?verbose", lambda answer: "operations" not in answer.text)
        assert text.text == ("[-]app failed: the app is starting\n[-]model failed: not started\nreadyz check failed\n")
        may_start.set()
        await answer_of(client, "/readyz", is_ready)


async def test_an_app_that_failed_to_start_is_not_to_be_kept() -> None:
    """A process whose start in the background has failed is of no use: `/livez` fails too, so that it is replaced."""

    @scoped("app")
    async def model() -> str:
        msg = "no such file: /secret/model"
        raise FileNotFoundError(msg)

    app = FastAPI(lifespan=lifespan(also=[model], start="background"))
    app.include_router(ops_router())
    async with client_of(app) as client, app.router.lifespan_context(app):
        live = await answer_of(client, "/livez", lambda answer: answer.status_code == 503)
        ready = await client.get("/readyz?verbose")
    assert live.json() == {"status": "fail", "output": "the app did not start"}
    assert ready.status_code == 503
    assert "secret" not in ready.text


async def test_an_app_that_drains_lives_and_is_not_ready() -> None:
    """From SIGTERM on no new requests are wanted, while those that come are answered."""
    app = FastAPI(lifespan=lifespan(drain_delay=20))
    app.include_router(ops_router())
    heard = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        async with served(app) as client:
            assert (await client.get("/readyz")).status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            answer = await answer_of(client, "/readyz", lambda answer: answer.status_code == 503)
            assert answer.json()["output"] == "the app is about to stop, and is to get no new requests"
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/readyz?verbose")).text.startswith("[-]app failed: the app is about to stop")
    finally:
        signal.signal(signal.SIGTERM, heard)


async def test_an_app_that_stops_lives_and_is_not_ready() -> None:
    """From SIGTERM on without a delay, for as long as requests have their grace."""
    app = FastAPI(lifespan=lifespan(grace=5))
    app.include_router(ops_router())
    heard = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        async with served(app) as client:
            os.kill(os.getpid(), signal.SIGTERM)
            answer = await answer_of(client, "/readyz", lambda answer: answer.status_code == 503)
            assert answer.json()["output"] == "the app is stopping"
            assert (await client.get("/livez")).status_code == 200
    finally:
        signal.signal(signal.SIGTERM, heard)


# --- where the routes are ---------------------------------------------------------------------------------------------


async def test_probes_are_not_in_the_schema() -> None:
    """They are no part of the API."""
    assert app_of().openapi()["paths"] == {}


async def test_a_prefix_stands_before_each_path() -> None:
    """That of the router, and that of `include_router`."""
    app = app_of(prefix="/internal")
    app.include_router(ops_router(), prefix="/more")
    async with served(app) as client:
        for path in ("/internal/livez", "/internal/readyz", "/more/livez", "/more/readyz"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/readyz")).status_code == 404


async def test_two_routers_tell_of_the_same_checks() -> None:
    """One may be for the orchestrator, another for people: what is checked is checked once."""
    checked: list[int] = []
    resource = scoped("app", name="database")(lambda: 1)
    resource.health(every=3600, critical=True)(checked.append)
    app = app_of(resource)
    app.include_router(ops_router(prefix="/more"))
    async with served(app) as client:
        await answer_of(client, "/readyz", is_ready)
        assert (await client.get("/more/readyz/database")).status_code == 200
    assert checked == [1]


async def test_a_mounted_app_tells_of_the_app_that_it_is_mounted_in() -> None:
    """Its router answers for all that the outer app has started."""
    inner, outer = FastAPI(), FastAPI(lifespan=lifespan(also=[switched(switch := Switch())]))
    inner.include_router(ops_router())
    outer.mount("/inner", inner)
    async with client_of(outer) as client:
        assert (await client.get("/inner/readyz")).status_code == 503
        async with running(outer):
            await answer_of(client, "/inner/readyz", is_ready)
            switch.says = False
            await answer_of(client, "/inner/readyz", lambda answer: answer.status_code == 503)
            assert (await client.get("/inner/livez")).status_code == 200


async def test_an_app_that_asks_everyone_who_they_are_has_its_probes_in_a_mounted_app() -> None:
    """What the app itself depends on stands before its probes too; a mounted app has none of it."""

    def refuse() -> None:
        raise HTTPException(401)

    probes, app = FastAPI(), FastAPI(lifespan=lifespan, dependencies=[Depends(refuse)])
    probes.include_router(ops_router())
    app.include_router(ops_router())
    app.mount("/internal", probes)
    async with served(app) as client:
        assert (await client.get("/readyz")).status_code == 401
        assert (await client.get("/internal/readyz")).status_code == 200
