"""What a start costs: the import, planning big apps, and resources that take their time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI

from benchmarks.contenders import TENURE
from benchmarks.results import Amount
from tenure import lifespan, running, scoped

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1.0
RESOURCES = 200
ROUTES = 1_000

IMPORTED = """
from time import process_time
import fastapi
begin = process_time()
from tenure import Counter, lifespan, running, scoped
print(process_time() - begin)
"""


async def independent(count: int = 5) -> Amount:
    """Start resources that take a second each and do not need one another."""

    def slow(number: int) -> Callable[..., object]:
        @scoped("app", name=f"slow_{number}")
        async def resource() -> int:
            await asyncio.sleep(SECOND)
            return number

        return resource

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(slow(number)) for number in range(count)])
    app.get("/")(lambda: None)
    begin = perf_counter()
    async with running(app):
        took = perf_counter() - begin
    return Amount(
        "start",
        f"start of {count} independent resources of {SECOND:g} s",
        TENURE,
        round(took, 3),
        "s",
        bar=1.2,
        note=f"one after another, as in a lifespan of one's own, it is {count * SECOND:g} s",
    )


def imported(times: int) -> Amount:
    """
    Import tenure where FastAPI is imported already, each time in a process of its own.

    It is read from bytecode, as an installed package is, whether or not Python may leave any beside this checkout.
    """
    with TemporaryDirectory() as cache:
        place = {"PYTHONPYCACHEPREFIX": cache}
        compiled = [child("-c", IMPORTED, **place, PYTHONDONTWRITEBYTECODE="1")[0] * 1000 for _ in range(times)]
        child("-c", IMPORTED, **place, PYTHONDONTWRITEBYTECODE="")
        found = [child("-c", IMPORTED, **place, PYTHONDONTWRITEBYTECODE="")[0] * 1000 for _ in range(times)]
    return Amount(
        "import",
        "`from tenure import Counter, lifespan, running, scoped` beyond `import fastapi`",
        TENURE,
        round(median(found), 2),
        "ms",
        bar=15,
        note=f"of the processor's time, from bytecode; {min(found):.1f} to {max(found):.1f} in {times} processes; "
        f"where each process compiles the source, {median(compiled):.1f} ms",
    )


def planned(times: int, *, ten_times: bool) -> list[Amount]:
    """Start apps of many routes, each time in a process of its own."""
    few = [planning(ROUTES) for _ in range(times)]
    took = median(start for _, start in few)
    rows = [
        Amount(
            "planning",
            f"start of an app of {ROUTES:,} routes and {RESOURCES} resources",
            TENURE,
            round(took * 1000, 1),
            "ms",
            bar=150,
            note=f"planned, checked, started and bound; FastAPI's own first look at the routes, "
            f"{median(fastapi for fastapi, _ in few) * 1000:,.0f} ms, is apart",
        )
    ]
    if ten_times:
        fastapi, start = planning(10 * ROUTES)
        rows.append(
            Amount(
                "planning-growth",
                f"the same with {10 * ROUTES:,} routes",
                TENURE,
                round(start / took, 2),
                "times as long",
                bar=12,
                note=f"{start * 1000:,.0f} ms; FastAPI's own look: {fastapi * 1000:,.0f} ms",
            )
        )
    return rows


def planning(routes: int) -> tuple[float, float]:
    """Give the seconds that FastAPI needs for an app, and its start, in a process of its own."""
    fastapi, start = child("-m", "benchmarks.big_app", str(routes), str(RESOURCES))
    return fastapi, start


def child(*arguments: str, **variables: str) -> list[float]:
    """Give the numbers that a process prints."""
    command, environment = [sys.executable, *arguments], os.environ | variables
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout  # noqa: S603
    return [float(number) for number in printed.split()]
