"""An app that is started, then forked: `python -m tests.faults.pools.forked` tells what parent and child meet."""

import asyncio
import importlib
import json
import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

import httpx

from tenure import running
from tests.faults.pools.settings import Ask

module = importlib.import_module(os.environ["MODULE"].partition(":")[0])


def client() -> httpx.AsyncClient:
    """Give a client of the app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(module.app), base_url="http://app")


async def told(what: Any) -> str:
    """Give what is said of a use."""
    try:
        return f"it was answered: {await what}"
    except Exception as error:  # noqa: BLE001 (whatever it is)
        return f"{type(error).__name__}: {error}"


async def child(ask: Ask, end: Connection) -> None:
    """Use what the parent has started."""
    async with client() as asking:
        request = await told(asking.get("/echo/1"))
    end.send({"child": os.getpid(), "request": request, "pool": await told(ask("SELECT 1"))})


async def sessions(asking: httpx.AsyncClient) -> list[int]:
    """Give the sessions that answer many at once."""
    answers = await asyncio.gather(*[asking.get(f"/echo/{number}") for number in range(20)])
    assert [answer.json()["number"] for answer in answers] == [*range(20)]
    return sorted({answer.json()["session"] for answer in answers})


def work(ask: Ask, end: Connection) -> None:
    """Be the child."""
    asyncio.run(child(ask, end))


async def main() -> None:
    """Start the app, fork, and see that all is well afterwards."""
    async with running(module.app) as scope, client() as asking:
        ask = await module.reading(await scope.get(module.shared))
        before = await sessions(asking)
        mine, its = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=work, args=(ask, its))
        process.start()
        found = await asyncio.to_thread(mine.recv)
        await asyncio.to_thread(process.join)
        after = await sessions(asking)
        print(json.dumps({**found, "parent": os.getpid(), "before": before, "after": after, "right": True}))


if __name__ == "__main__":
    asyncio.run(main())
