"""Running an app that has an `ops_router`, and asking it how it is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI

from tenure import lifespan, running
from tenure.ops import ops_router

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tenure import Resource

DEADLINE = 20


def app_of(*resources: Resource[Any], **words: Any) -> FastAPI:
    """Make an app that starts these and tells how it is."""
    app = FastAPI(lifespan=lifespan(also=resources))
    app.include_router(ops_router(**words))
    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """Give a client of an app in this process, to whom its errors are not raised."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """Run an app in this process, and give a client of it."""
    async with running(app), client_of(app) as client:
        yield client


async def answer_of(
    client: httpx.AsyncClient, path: str, condition: Callable[[httpx.Response], bool]
) -> httpx.Response:
    """Ask until the answer is as it should be, and give it."""
    async with asyncio.timeout(DEADLINE):
        while not condition(answer := await client.get(path)):
            await asyncio.sleep(0.01)
    return answer


async def check_of(
    client: httpx.AsyncClient, name: str, condition: Callable[[dict[str, Any]], bool] = lambda check: "time" in check
) -> dict[str, Any]:
    """Wait until a check is as it should be, at least until it has a result, and give it as `/ops/health` tells it."""

    def told(answer: httpx.Response) -> dict[str, Any]:
        found: dict[str, Any] = answer.json()["checks"][f"{name}:responseTime"][0]
        return found

    return told(await answer_of(client, "/ops/health", lambda answer: condition(told(answer))))
