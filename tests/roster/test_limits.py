"""How often one client may write, and what that costs the service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from roster.embedder import Embedding, embedder
from roster.limits import clock
from roster.main import app
from roster.settings import Settings, settings
from tenure import override

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from tenure import Scope

pytestmark = pytest.mark.anyio

hosts = (f"192.0.2.{number}" for number in count(1))
NOBODY = f"/users/{2**63 - 1}"


@asynccontextmanager
async def client_at(host: str) -> AsyncGenerator[httpx.AsyncClient]:
    """Make a client of the running app that has an address."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(host, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://roster") as client:
        yield client


@pytest.fixture
def now(scope: Scope) -> Iterator[list[float]]:
    """Let two writes in a minute through, of a minute that the test sets."""
    time = [90.25]
    with override(app, {settings: lambda: Settings(writes_per_minute=2), clock: lambda: time[0]}):
        yield time


async def test_writes_above_the_limit_wait_for_the_end_of_the_minute(now: list[float]) -> None:
    """Two get through, the third is answered 429, with the seconds after which one does again."""
    async with client_at(next(hosts)) as client:
        assert [(await client.delete(NOBODY)).status_code for _ in range(2)] == [404, 404]
        refused = await client.delete(NOBODY)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert refused.json()["detail"] == "at most 2 writes in a minute from one address"
        assert refused.headers["retry-after"] == "30"
        now[0] += 29
        assert (await client.delete(NOBODY)).headers["retry-after"] == "1"
        now[0] += 1
        assert (await client.delete(NOBODY)).status_code == 404


async def test_each_kind_of_write_counts_and_reading_does_not(now: list[float]) -> None:
    """Adding, changing and removing count together, what is not valid too; who reads is never refused."""
    async with client_at(next(hosts)) as client:
        assert (await client.post("/users", json={})).status_code == 422
        assert (await client.patch(NOBODY, json={})).status_code == 404
        user = {"username": "above-the-limit", "email": "above@example.com"}
        for answer in (
            await client.post("/users", json=user),
            await client.patch(NOBODY, json={}),
            await client.delete(NOBODY),
        ):
            assert answer.status_code == 429
        assert {(await client.get("/users")).status_code for _ in range(5)} == {200}


async def test_a_refused_write_costs_the_model_nothing(now: list[float]) -> None:
    """A write above the limit is refused before its text is embedded."""
    embedded: list[Any] = []

    async def embed(text: str) -> Embedding:
        embedded.append(text)
        return Embedding([1.0], "a double")

    with override(app, {embedder: lambda: embed}):
        async with client_at(next(hosts)) as client:
            answers = [await client.patch(NOBODY, json={"bio": "Sings."}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [404, 404, 429, 429, 429]
    assert embedded == ["Sings."] * 2


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ("192.0.2.201", "192.0.2.202", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:2::1", "2001:db8:0:3::1", False),
        ("192.0.2.203", "::ffff:192.0.2.203", True),
        ("unix:", "unix:", True),
    ],
)
async def test_a_client_is_who_owns_the_address(now: list[float], first: str, second: str, *, are_one: bool) -> None:
    """Addresses are counted apart, but those of one IPv6 network of 64 bits, which one client has, together."""
    async with client_at(first) as client, client_at(second) as other:
        for _ in range(2):
            await client.delete(NOBODY)
        assert (await other.delete(NOBODY)).status_code == (429 if are_one else 404)


async def test_the_document_tells_of_the_limit(now: list[float]) -> None:
    """Each write may be answered 429, and each 429 and 503 says when to come again."""
    paths: dict[str, Any] = app.openapi()["paths"]
    operations = {(method, path): told for path, item in paths.items() for method, told in item.items()}
    limited = {each for each, told in operations.items() if "429" in told["responses"]}
    assert limited == {
        ("post", "/users"),
        ("patch", "/users/{user_id}"),
        ("delete", "/users/{user_id}"),
        ("put", "/users/{user_id}/avatar"),
        ("delete", "/users/{user_id}/avatar"),
    }
    answers = [told["responses"].get(code) for told in operations.values() for code in ("429", "503", "504")]
    assert all("Retry-After" in answer["headers"] for answer in answers if answer)
    assert "text/event-stream" in operations["get", "/stats/live"]["responses"]["200"]["content"]
