"""A client of other services: what holds a connection and how long, what is refused and how, what is left behind."""

import asyncio
import importlib
import logging
import random
import re
import ssl
import sys
from typing import Annotated

import httpx
import pytest
import trustme
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import HttpUrl

from tenure import lifespan, override, running, scoped
from tenure.errors import AlreadyClosed, DeclarationError, MissingExtra, StartFailed
from tenure.pools.errors import PoolExhausted, Unavailable, Unreachable
from tenure.pools.httpx import ClientSettings, client
from tests.pools.apps import served
from tests.pools.upstream import Upstream
from tests.waiting import until

GIVEN_UP = 1000
"""Seconds that none of these tests waits: what is bounded by less is not bounded by this."""


async def test_one_client_keeps_its_connections_and_closes_them_at_the_end() -> None:
    """Handlers share one client, which opens nothing before its first request, and nothing is open after the app."""
    async with Upstream() as upstream:
        api = client(upstream.url)
        app = FastAPI(lifespan=lifespan)
        seen: list[httpx.AsyncClient] = []

        @app.get("/{number}")
        async def relay(number: int, api: Annotated[httpx.AsyncClient, Depends(api)]) -> str:
            seen.append(api)
            return (await api.get(f"/echo/{number}")).text

        async with served(app, api.pool) as (browser, pool):
            assert upstream.accepted == 0
            for number in range(5):
                assert (await browser.get(f"/{number}")).json() == f"/echo/{number}"
            assert upstream.accepted == 1
            assert len(set(map(id, seen))) == 1
            assert (pool.stats.open, pool.stats.in_use) == (1, 0)
        await until(lambda: upstream.open == 0)
        with pytest.raises(AlreadyClosed, match="client `client` was used after its app had closed it"):
            await seen[0].get("/echo/late")


async def test_a_handler_that_works_on_what_it_has_read_holds_no_connection() -> None:
    """Fifty handlers that have read a response and wait for something else keep two connections free."""
    go_on = asyncio.Event()
    read: list[str] = []
    async with Upstream() as upstream:
        api = client(upstream.url, max_size=2)
        app = FastAPI(lifespan=lifespan)

        @app.get("/waits")
        async def waits(api: Annotated[httpx.AsyncClient, Depends(api)]) -> None:
            read.append((await api.get("/echo/1")).text)
            await go_on.wait()

        async with served(app, api.pool) as (browser, pool):
            waiting = [asyncio.create_task(browser.get("/waits")) for _ in range(50)]
            await until(lambda: len(read) == 50)
            assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)
            go_on.set()
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert upstream.most == 2


async def test_a_client_whose_connections_are_all_in_use_says_by_whom(caplog: pytest.LogCaptureFixture) -> None:
    """The browser has a 503 that tells when to come again; the log has the holders' routes and lines."""
    async with Upstream() as upstream:
        api = client(upstream.url, name="api", max_size=2, acquire_timeout=0.3)
        app = FastAPI(lifespan=lifespan)

        @app.get("/silent/{number}")
        async def silent(number: int, api: Annotated[httpx.AsyncClient, Depends(api)]) -> None:
            await api.get("/silent")

        @app.get("/probe")
        async def probe(api: Annotated[httpx.AsyncClient, Depends(api)]) -> str:
            return (await api.get("/echo/1")).text

        @app.get("/careful")
        async def careful(api: Annotated[httpx.AsyncClient, Depends(api)]) -> str:
            try:
                return (await api.get("/echo/1")).text
            except httpx.PoolTimeout as error:
                return f"{isinstance(error, PoolExhausted)} {error.request.url.path}"

        async with served(app, api.pool) as (browser, pool):
            held = [asyncio.create_task(browser.get(f"/silent/{number}")) for number in range(2)]
            await until(lambda: pool.stats.in_use == 2)
            refused = await browser.get("/probe")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json() == {"detail": "the service is too busy at the moment"}
            assert (await browser.get("/careful")).json() == "True /echo/1"
            assert pool.stats.refused == 2
            assert len(pool.holders()) == 2
            for task in held:
                task.cancel()
            await until(lambda: pool.stats.in_use == 0)
            assert (await browser.get("/probe")).json() == "/echo/1"
    said = next(record.message for record in caplog.records if "pool-exhausted" in record.message)
    assert "no connection of pool `api` was free within 0.3 s: all 2 are out" in said
    found = re.findall(r"out for [\d.]+ s: GET /silent/\{number\}, borrowed at tests/pools/test_httpx.py:\d+", said)
    assert len(found) == 2


@pytest.mark.parametrize("times", [1, 2])
async def test_a_storm_of_cancellations_leaves_no_connection_in_use(times: int) -> None:
    """Of 1,000 requests cancelled at any point, some twice, none keeps a connection, and no answer goes astray."""
    chance = random.Random(7)  # noqa: S311 (nothing is secret about it)
    loop = asyncio.get_running_loop()
    finished = 0
    async with Upstream() as upstream:
        api = client(upstream.url, max_size=5, acquire_timeout=GIVEN_UP, timeout=GIVEN_UP, deadline=GIVEN_UP)
        async with running(also=[api, api.pool]) as scope:
            opened, pool = await scope.get(api), await scope.get(api.pool)

            async def ask(number: int) -> bool:
                return (await opened.get(f"/echo/{number}")).text == f"/echo/{number}"

            for number in range(20):
                tasks = [asyncio.create_task(ask(1000 * number + each)) for each in range(50)]
                for task in tasks:
                    later = chance.uniform(0, 0.2)
                    for _ in range(times):
                        loop.call_later(later, task.cancel)
                        later += chance.uniform(0, 0.001)
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes if outcome is not True} <= {asyncio.CancelledError}
                finished += outcomes.count(True)
            assert (pool.stats.in_use, pool.stats.waiting, pool.stats.killed) == (0, 0, 0)
            async with asyncio.timeout(20):
                assert all(await asyncio.gather(*[ask(number) for number in range(50)]))
            assert upstream.open <= 5
        await until(lambda: upstream.open == 0)
    assert 0 < finished < 1000


@pytest.mark.parametrize("path", ["/silent", "/trickle"])
async def test_a_request_may_be_cancelled_again_while_it_ends(path: str) -> None:
    """However soon a second cancellation follows the first, the one connection that there may be serves others."""
    async with Upstream() as upstream:
        api = client(upstream.url, max_size=1, timeout=GIVEN_UP, deadline=GIVEN_UP, acquire_timeout=GIVEN_UP)
        async with running(also=[api]) as scope:
            opened = await scope.get(api)
            for steps in range(12):
                begun = asyncio.Event()

                async def read(begun: asyncio.Event) -> None:
                    asyncio.get_running_loop().call_later(0.03, begun.set)
                    await opened.get(path)

                task = asyncio.create_task(read(begun))
                await begun.wait()
                task.cancel()
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                async with asyncio.timeout(20):
                    assert (await opened.get("/echo/1")).text == "/echo/1"


async def test_a_response_that_is_never_closed_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names client, request and the lines that led to it; what is left at the close is named and ended."""
    kept = []
    async with Upstream() as upstream:
        api = client(upstream.url, name="api", leak_after=0.1, release_timeout=0.2)
        app = FastAPI(lifespan=lifespan)

        async def forgetful(api: httpx.AsyncClient) -> None:
            kept.append(await api.send(api.build_request("GET", "/trickle"), stream=True))

        @app.get("/leak")
        async def leak(api: Annotated[httpx.AsyncClient, Depends(api)]) -> None:
            await api.get("/echo/1")  # which is over, and nothing to report
            await forgetful(api)

        caplog.set_level(logging.WARNING, "tenure")
        async with served(app, api.pool) as (browser, pool):
            await browser.get("/leak")
            await until(lambda: pool.stats.leaked > 0)
            assert (pool.stats.in_use, pool.stats.leaked) == (1, 1)
        await until(lambda: upstream.open == 0)
        with pytest.raises(Unreachable):
            await kept[0].aread()
    said = [record.message for record in caplog.records if " is out for " in record.message]
    assert len(said) == 2  # when it was out for too long, and at the close
    for each in said:
        assert "a connection of pool api is out for" in each
        assert re.search(r"test_httpx.py:\d+ in leak\n  tests/pools/test_httpx.py:\d+ in forgetful$", each)


FAILURES = {
    "/silent": (httpx.ReadTimeout, "no answer in time (ReadTimeout)"),
    "/drop": (httpx.RemoteProtocolError, "Server disconnected without sending a response"),
    "/half": (httpx.RemoteProtocolError, "peer closed connection without sending complete message body"),
    "/trickle": (httpx.TimeoutException, "no answer within 0.4 s"),
    "/redirect": (httpx.TimeoutException, "no answer within 0.4 s"),
    "http://127.0.0.1:1/": (httpx.ConnectError, "connection"),
}


@pytest.mark.parametrize("path", FAILURES)
async def test_a_service_that_fails_is_a_503_unless_someone_knows_better(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who catches httpx's error has it; who does not answers 503; the log has the reason, and no path or query."""
    kind, reason = FAILURES[path]
    async with Upstream() as upstream:
        api = client(upstream.url, name="api", timeout=0.2, deadline=0.4, options={"follow_redirects": True})
        app = FastAPI(lifespan=lifespan)

        @app.get("/plain")
        async def plain(api: Annotated[httpx.AsyncClient, Depends(api)]) -> None:
            await api.get(path, params={"token": "secret"}, extensions={"timeout": {"read": 0.2, "connect": 5}})

        @app.get("/careful")
        async def careful(api: Annotated[httpx.AsyncClient, Depends(api)]) -> list[str]:
            try:
                await api.get(path)
            except kind as error:
                return [type(error).__name__, error.request.method, str(isinstance(error, Unreachable))]
            return []

        async with served(app, api.pool) as (browser, pool):
            failed = await browser.get("/plain")
            assert (failed.status_code, failed.headers["retry-after"]) == (503, "1")
            assert failed.json() == {"detail": "another service does not answer at the moment"}
            assert (await browser.get("/careful")).json() == [kind.__name__, "GET", "True"]
            assert pool.stats.in_use == 0
    said = next(record.message for record in caplog.records if "unreachable" in record.message)
    assert "GET http://127.0.0.1:" in said
    assert "by client `api` has failed: " in said
    assert reason in said
    assert "secret" not in said


@pytest.mark.parametrize(("kind", "status"), [(httpx.HTTPError, 502), (Unavailable, 504)])
async def test_an_exception_handler_of_the_apps_goes_first(kind: type[Exception], status: int) -> None:
    """What an app does about httpx's errors or tenure's, it does about these."""
    api = client("http://127.0.0.1:1", name="api")
    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(kind)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(type(error).__name__, status)

    @app.get("/")
    async def relay(api: Annotated[httpx.AsyncClient, Depends(api)]) -> None:
        await api.get("/")

    async with served(app, api.pool) as (browser, _):
        answer = await browser.get("/")
        assert (answer.status_code, answer.json()) == (status, "ConnectError")


async def test_a_deadline_is_a_requests_own_or_none() -> None:
    """One request may say another deadline, or none; a streamed body is bounded by its pauses alone."""
    async with Upstream() as upstream:
        api = client(upstream.url, deadline=0.1, timeout=GIVEN_UP)
        async with running(also=[api, api.pool]) as scope:
            opened = await scope.get(api)
            asyncio.get_running_loop().call_later(0.5, (go_on := asyncio.Event()).set)

            async def waits(**extensions: float | None) -> None:
                await opened.get("/silent", extensions=extensions)

            with pytest.raises(httpx.TimeoutException, match=r"no answer within 0\.1 s"):
                await waits()
            with pytest.raises(httpx.TimeoutException, match=r"no answer within 0\.01 s"):
                await waits(deadline=0.01)
            unbounded = asyncio.create_task(waits(deadline=None))
            async with opened.stream("GET", "/trickle") as response:
                received = 0
                async for part in response.aiter_bytes():
                    received += len(part)
                    if go_on.is_set():
                        break
            assert received > 1
            assert not unbounded.done()
            unbounded.cancel()
            await asyncio.wait([unbounded])
            assert (await scope.get(api.pool)).stats.in_use == 0


async def test_a_wait_for_a_connection_ends_before_the_deadline_does() -> None:
    """However long a request may wait for a connection, it is told that there was none while its deadline runs."""
    async with Upstream() as upstream:
        api = client(upstream.url, max_size=1, acquire_timeout=GIVEN_UP, deadline=0.5)
        async with running(also=[api]) as scope:
            opened = await scope.get(api)
            async with opened.stream("GET", "/trickle"):
                with pytest.raises(PoolExhausted):
                    await opened.get("/echo/1")
                with pytest.raises(httpx.PoolTimeout, match=r"within 0\.01 s"):
                    await opened.get("/echo/1", timeout=httpx.Timeout(5, pool=0.01))
            assert (await opened.get("/echo/1")).text == "/echo/1"


async def test_a_connection_may_lead_elsewhere_next() -> None:
    """Two services share the one connection there may be, in turn: the one that is idle is ended for the other."""
    async with Upstream() as one, Upstream() as other:
        api = client(max_size=1)
        async with running(also=[api]) as scope:
            opened = await scope.get(api)
            for upstream in (one, other, one):
                assert (await opened.get(f"{upstream.url}/echo/1")).text == "/echo/1"
                assert (await opened.get(f"{upstream.url}/echo/2")).text == "/echo/2"
            await until(lambda: one.open + other.open == 1)
        assert (one.accepted, other.accepted) == (2, 1)


async def test_connections_that_are_no_longer_of_use_are_closed() -> None:
    """What was idle for longer than `keepalive_expiry` is closed when the next request has ended."""
    async with Upstream() as upstream:
        api = client(upstream.url, keepalive_expiry=0.2)
        async with running(also=[api, api.pool]) as scope:
            opened, pool = await scope.get(api), await scope.get(api.pool)
            await asyncio.gather(*[opened.get("/echo/1") for _ in range(5)])
            assert upstream.open == 5
            await asyncio.sleep(0.3)
            assert (await opened.get("/echo/2")).text == "/echo/2"
            await until(lambda: upstream.open == 1)
            assert pool.stats.open == 1


async def test_the_app_ends_although_a_service_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """A request that is under way at the close is named and ended; who waits for a connection still has none."""
    async with Upstream() as upstream, asyncio.timeout(20):
        api = client(upstream.url, max_size=1, timeout=GIVEN_UP, deadline=GIVEN_UP, release_timeout=0.2)
        async with running(also=[api]) as scope:
            opened = await scope.get(api)
            waiting = asyncio.create_task(opened.get("/silent"), name="waits for silence")
            await until(lambda: upstream.open == 1)
            late = asyncio.create_task(opened.get("/echo/1"))
            await asyncio.sleep(0)
        with pytest.raises(httpx.TransportError):
            await waiting
        with pytest.raises(AlreadyClosed):
            await late
        assert upstream.accepted == 1
    assert any("for waits for silence; it was borrowed at" in record.message for record in caplog.records)


async def test_settings_may_come_from_a_dependency() -> None:
    """A URL or settings may be what another resource gives; what the declaration says goes before."""

    @scoped("app")
    async def told() -> str:
        return "told"

    async with Upstream() as upstream:

        def settings(word: Annotated[str, Depends(told)]) -> ClientSettings:
            return ClientSettings(base_url=f"{upstream.url}/echo", max_size=9, options={"headers": {"word": word}})

        configured, plain = client(settings, name="configured", max_size=3), client(lambda: HttpUrl(upstream.url))
        async with running(also=[configured, configured.pool, plain]) as scope:
            opened = await scope.get(configured)
            assert (await opened.get("/1")).text == "/echo/1"
            assert opened.headers["word"] == "told"
            assert (await scope.get(configured.pool)).stats.size == 3
            assert (await (await scope.get(plain)).get("/echo/2")).text == "/echo/2"


async def test_certificates_are_an_option() -> None:
    """A service over TLS is asked with the authorities that `verify` has, and refused without them."""
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    async with Upstream(serving) as upstream:
        trusted, wary = client(upstream.url, name="trusted", options={"verify": trusting}), client(upstream.url)
        async with running(also=[trusted, wary]) as scope:
            opened = await scope.get(trusted)
            for number in range(3):
                assert (await opened.get(f"/echo/{number}")).text == f"/echo/{number}"
            assert upstream.accepted == 1
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await (await scope.get(wary)).get("/echo/1")


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("ftp://elsewhere", {}),
        ("", {"max_size": 0}),
        ("", {"deadline": -1}),
        ("", {"options": {"timeout": 3}}),
        ("", {"options": {"verif": False}}),
        ("", {"options": {"proxy": "gopher://elsewhere"}}),
    ],
)
async def test_what_no_client_can_be_like_is_refused_at_start(source: str, settings: dict[str, object]) -> None:
    """A wrong URL, number or option stops the app, and does not wait for the first request."""
    api = client(source, **settings)
    with pytest.raises(StartFailed) as caught:
        async with running(also=[api]):
            pass
    assert isinstance(caught.value.__cause__, DeclarationError)


async def test_a_client_is_overridden_as_any_dependency() -> None:
    """In a test, another client takes its place, and neither the client nor its pool is made."""
    api = client("ftp://would-be-refused")
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def relay(api: Annotated[httpx.AsyncClient, Depends(api)]) -> str:
        return (await api.get("https://nowhere/")).text

    def double() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(200, text="double")))

    transport = httpx.ASGITransport(app)
    with override(app, {api: double}):
        async with running(app), httpx.AsyncClient(transport=transport, base_url="http://test") as browser:
            assert (await browser.get("/")).json() == "double"


def test_without_httpx_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the client without its package says what to install."""
    for name in ("tenure.pools.httpx", "tenure.pools.httpx_pool", "tenure.pools.httpx_settings"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra) as caught:
        importlib.import_module("tenure.pools.httpx")
    assert caught.value.hint == "pip install 'tenure[httpx]'"
