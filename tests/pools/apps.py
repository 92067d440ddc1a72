"""Running an app on a pool, for a test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import httpx

from tenure import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from tenure import Resource

SIZE = 5

T = TypeVar("T")


@asynccontextmanager
async def served(app: FastAPI, pool: Resource[T]) -> AsyncIterator[tuple[httpx.AsyncClient, T]]:
    """Run an app in this process; give a client of it, and its pool."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        running(app) as scope,
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client,
    ):
        yield client, await scope.get(pool)
