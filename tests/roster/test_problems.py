"""What no route answers: unknown paths, wrong methods, large bodies, an absent database, a mistake of the service."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from roster.database import users
from roster.main import app
from roster.repository import repository
from tenure import override

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from httpx import AsyncClient

    from tenure import Scope

pytestmark = pytest.mark.anyio

PROBLEM = "application/problem+json"
LARGEST_BODY = 64 * 1024


async def test_an_unknown_path_is_a_problem(client: AsyncClient) -> None:
    """A path that is no route's is answered 404."""
    response = await client.get("/nowhere")
    assert response.headers["content-type"] == PROBLEM
    assert response.json() == {"title": "Not Found", "status": 404, "detail": "Not Found"}


async def test_a_wrong_method_is_a_problem_and_names_the_right_ones(client: AsyncClient) -> None:
    """A method that a path does not have is answered 405, with `Allow`."""
    response = await client.put("/stats")
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["allow"] == "GET"
    assert response.json() == {"title": "Method Not Allowed", "status": 405, "detail": "Method Not Allowed"}


@pytest.mark.parametrize("path", ["/users", "/nowhere"])
async def test_a_body_that_says_it_is_too_large_is_refused(client: AsyncClient, path: str) -> None:
    """A declared length above 64 KiB is answered 413 on every path, before anything is read."""
    response = await client.post(path, content=b" " * (LARGEST_BODY + 1))
    assert (response.status_code, response.headers["content-type"]) == (413, PROBLEM)
    assert response.json()["detail"] == "a body has at most 65536 bytes"


async def test_a_body_that_turns_out_too_large_is_refused(client: AsyncClient) -> None:
    """A body without a declared length is counted as it comes, and answered 413."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LARGEST_BODY // 1024 + 1):
            yield b" " * 1024

    response = await client.post("/users", content=chunks(), headers={"content-type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (413, PROBLEM)


async def test_the_longest_user_fits(client: AsyncClient) -> None:
    """The largest user that the limits allow is not too large a body, even when all of it is escaped."""
    longest = {"username": "l" * 64, "email": "longest@example.com", "bio": "é" * 2000}
    assert (await client.post("/users", json=longest)).status_code == 201


async def test_a_full_pool_asks_to_come_again(client: AsyncClient, scope: Scope) -> None:
    """When every connection stays out, a request is answered 503 with `Retry-After`; once they are back, 200."""
    connections = (await scope.get(users)).driver_pool
    async with AsyncExitStack() as stack:
        for _ in range(connections.get_max_size()):
            await stack.enter_async_context(connections.acquire())
        response = await client.get("/users")
    assert (response.status_code, response.headers["content-type"]) == (503, PROBLEM)
    assert response.headers["retry-after"] == "1"
    assert response.json()["detail"] == "the database does not answer at the moment"
    assert (await client.get("/users")).status_code == 200


async def test_a_slow_database_asks_to_come_again(client: AsyncClient, scope: Scope) -> None:
    """A statement that is not done in time is answered 503; once nothing holds it up, 200."""
    connections = (await scope.get(users)).driver_pool
    async with connections.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE users")
        response = await client.get("/users")
    assert (response.status_code, response.headers["content-type"]) == (503, PROBLEM)
    assert (await client.get("/users")).status_code == 200


async def test_connections_that_the_database_cuts_are_replaced(client: AsyncClient, scope: Scope) -> None:
    """After the database has cut every connection, requests are answered 503 at most once each, then 200."""
    connections = (await scope.get(users)).driver_pool
    await connections.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    statuses = [(await client.get("/users")).status_code for _ in range(20)]
    assert set(statuses[:10]) <= {200, 503}
    assert statuses[10:] == [200] * 10


async def test_a_mistake_of_the_service_tells_nothing(client: AsyncClient) -> None:
    """An exception in a handler is answered 500 in the same form, without its text."""

    class Broken:
        async def get(self, user_id: int) -> None:
            message = f"the secret of {user_id}"
            raise RuntimeError(message)

    with override(app, {repository: Broken}):
        response = await client.get("/users/1")
    assert response.headers["content-type"] == PROBLEM
    assert response.json() == {
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the service failed; the error has been logged",
    }


async def test_stats_adds_one_and_answers(client: AsyncClient) -> None:
    """`GET /stats` adds one to the count and answers it; other routes add nothing."""
    before = (await client.get("/stats")).json()["total_requests"]
    await client.get("/users")
    assert (await client.get("/stats")).json() == {"total_requests": before + 1}
