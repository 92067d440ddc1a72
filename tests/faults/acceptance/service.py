"""
An app that shares state with all workers of all machines: a count, a limit, a step done once, a periodic job, news.

The environment says where: `TENURE_STATE`, `TENURE_DEPLOYMENT`, `WORK` for the database that the job writes to, and
`NOTES` for a folder that all machines of the test have in common.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import asyncpg
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tenure import MISSED, Cache, Counter, Lock, Topic, lifespan, scoped
from tenure.errors import LockLost, LockTimeout, StateUnavailable

logging.basicConfig(level=logging.INFO)

NOTES = Path(os.environ["NOTES"])
POOL = 2
LEASE = 3.0
"""Seconds after which the job of a killed process is another's."""


class Word(BaseModel):
    """What is published: a number, and when that was, by the clock that all processes of this machine share."""

    number: int
    at: float


def note(what: str) -> None:
    """Write down what happens, for all processes in one order."""
    with (NOTES / "notes").open("a") as notes:
        notes.write(f"{what} {os.getpid()} {time.monotonic()}\n")


@scoped("app")
async def pool() -> AsyncIterator["asyncpg.Pool[Any]"]:
    """Be the app's own connections."""
    async with asyncpg.create_pool(os.environ["WORK"], min_size=POOL, max_size=POOL) as pool:
        yield pool


Pool = Annotated["asyncpg.Pool[Any]", Depends(pool)]


@scoped("cluster", start_timeout=120)
async def migrated() -> int:
    """Make the table that cannot be made twice, when the test says so."""
    note("began")
    while not (NOTES / "migrate").exists():
        await asyncio.sleep(0.01)
    if (NOTES / "fail").exists():
        msg = "the table is not as it should be"
        raise RuntimeError(msg)
    connection = await asyncpg.connect(os.environ["WORK"])
    await connection.execute("CREATE TABLE work (number bigserial PRIMARY KEY, token bigint, pid int)")
    await connection.close()
    note("ended")
    return os.getpid()


Migrated = Annotated[int, Depends(migrated)]

turn = Lock("turn", scope="cluster", lease=LEASE)


@scoped("app")
async def job(turn: Annotated[Lock, Depends(turn)], pool: Pool, migrated: Migrated) -> AsyncIterator[None]:
    """Work whenever it is this process's turn."""
    working = asyncio.create_task(work(turn, pool))
    yield
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def work(turn: Lock, pool: "asyncpg.Pool[Any]") -> None:
    """Take the turn if it is free, and keep it; write each step down, with the token."""
    while True:
        with suppress(LockTimeout, LockLost, StateUnavailable):
            async with turn.hold(timeout=0) as held:
                while True:
                    held.check()
                    await pool.execute("INSERT INTO work (token, pid) VALUES ($1, $2)", held.token, os.getpid())
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)


async def up(app: FastAPI, migrated: Migrated) -> AsyncIterator[None]:
    """Tell when this process has started."""
    note("ready")
    yield


app = FastAPI(lifespan=lifespan(up, also=[job]))
requests = Counter("requests", scope="cluster", interval=0.1)
Requests = Annotated[Counter, Depends(requests)]
uses = Cache("uses", scope="cluster", ttl=600)
Uses = Annotated[Cache, Depends(uses)]
news = Topic("news", scope="cluster", type=Word)
News = Annotated[Topic[Word], Depends(news)]


@app.post("/pid")
async def pid() -> int:
    """Tell which process answers."""
    return os.getpid()


@app.post("/threaded")
def threaded(requests: Requests) -> int:
    """Add in a worker thread."""
    return requests.add()


@app.post("/awaited")
async def awaited(requests: Requests) -> int:
    """Add in the event loop."""
    return requests.add()


@app.post("/background")
async def background(requests: Requests, tasks: BackgroundTasks) -> int:
    """Answer with what there is, and add right after that."""
    tasks.add_task(add, requests)
    return requests.value


async def add(requests: Counter) -> None:
    """Add in the event loop."""
    requests.add()


@app.websocket("/socket")
async def socket(socket: WebSocket, requests: Requests) -> None:
    """Say which process this is, and add for each message."""
    await socket.accept()
    await socket.send_json(os.getpid())
    async for _ in socket.iter_text():
        await socket.send_json(requests.add())


@app.post("/value")
async def value(requests: Requests) -> int:
    """Tell the count."""
    return requests.value


@app.post("/limited/{limit}")
async def limited(limit: int, uses: Uses) -> bool:
    """Tell whether this is one of those that the limit lets through."""
    return await uses.increment("everyone") <= limit


@app.post("/publish/{number}")
async def publish(number: int, news: News) -> None:
    """Tell everybody."""
    await news.publish(Word(number=number, at=time.monotonic()))


@app.post("/news")
async def watch(news: News) -> StreamingResponse:
    """Stream what is published, a line each; the first says that from now on nothing is missed."""

    async def lines() -> AsyncIterator[str]:
        async with news.subscribe() as messages:
            yield '"subscribed"\n'
            async for word in messages:
                yield '"missed"\n' if word is MISSED else f"{word.model_dump_json()}\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


@app.post("/pool")
async def sessions(pool: Pool) -> list[int]:
    """Take every connection that the app's pool has, and tell which process of the database serves it."""
    async with AsyncExitStack() as stack:
        taken = [await stack.enter_async_context(pool.acquire(timeout=10)) for _ in range(POOL)]
        return sorted(connection.get_server_pid() for connection in taken)
