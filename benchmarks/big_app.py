"""An app of many routes and resources; it prints the seconds of a first request and of its start."""

import asyncio
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI

from benchmarks.driver import Client
from benchmarks.works import Work
from tenure import Resource, lifespan, running, scoped

CHAIN = 10
"""How many resources need one another, in a row."""

PER_ROUTER = 50
NOWHERE = Work("nowhere", "no route", bar=None, path="/nowhere")


def resource(number: int, before: Resource[int] | None) -> Resource[int]:
    """Declare one, which needs the one before."""
    if before is None:

        @scoped("app", name=f"resource_{number}")
        async def first() -> int:
            return number

        return first

    @scoped("app", name=f"resource_{number}")
    async def next_one(value: Annotated[int, Depends(before)]) -> int:
        return value + 1

    return next_one


def resources(count: int) -> list[Resource[int]]:
    """Declare many, in chains."""
    declared: list[Resource[int]] = []
    for number in range(count):
        declared.append(resource(number, declared[-1] if number % CHAIN else None))
    return declared


def add_route(router: APIRouter, number: int, declared: Sequence[Resource[int]]) -> None:
    """Add a route that takes two resources, and a parameter of its own."""
    one, other = declared[number % len(declared)], declared[number * 7 % len(declared)]

    @router.get(f"/{number}/{{item}}")
    async def handler(item: int, a: Annotated[int, Depends(one)], b: Annotated[int, Depends(other)]) -> int:
        return item + a + b


def build(routes: int, count: int) -> FastAPI:
    """Make the app."""
    app, declared = FastAPI(lifespan=lifespan), resources(count)
    for begin in range(0, routes, PER_ROUTER):
        router = APIRouter(prefix=f"/{begin}")
        for number in range(begin, min(begin + PER_ROUTER, routes)):
            add_route(router, number, declared)
        app.include_router(router)
    return app


async def first_request(app: FastAPI) -> float:
    """
    Give the seconds that FastAPI's first request takes; no route answers it.

    FastAPI makes the routes of included routers when they are first looked at. Whoever starts the app looks first, and
    would otherwise be charged for that.
    """
    begin = perf_counter()
    await Client(app, NOWHERE, {}).answer()
    return perf_counter() - begin


async def start(app: FastAPI) -> float:
    """Give the seconds until it would take requests."""
    begin = perf_counter()
    async with running(app):
        return perf_counter() - begin


def main() -> None:
    """Print both for the routes and resources that the arguments name."""
    app = build(int(sys.argv[1]), int(sys.argv[2]))
    print(asyncio.run(first_request(app)), asyncio.run(start(app)))  # noqa: T201 (the parent reads it)


if __name__ == "__main__":
    main()
