"""An app for real servers, over asyncpg or SQLAlchemy as `POOL` says, with handlers of every kind that borrow."""

import asyncio
import importlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tenure import cancel_on_disconnect, lifespan, scoped
from tests.faults.pools.settings import SIZE, Ask, say

backend: Any = importlib.import_module(f"tests.faults.pools.over_{os.environ['POOL']}")
shared, reading = backend.shared, backend.reading
Opened = Annotated[Any, Depends(backend.opened)]
Reading = Annotated[Ask, Depends(reading)]
Writing = Annotated[Ask, Depends(backend.writing)]
Holding = Annotated[Any, Depends(backend.holding)]

LONG = 60
"""Seconds that what takes long takes, unless it is told to go on."""
go_on = asyncio.Event()
under_way: Counter[str] = Counter()
kept: list[Any] = []


@contextmanager
def counted(kind: str) -> Iterator[None]:
    """Count what is under way."""
    under_way[kind] += 1
    try:
        yield
    finally:
        under_way[kind] -= 1


async def long() -> None:
    """Wait for something far away."""
    with suppress(TimeoutError):
        await asyncio.wait_for(go_on.wait(), LONG)


@scoped("app")
async def below() -> AsyncIterator[None]:
    """Be closed after the pool was."""
    yield
    say("below closed")


@scoped("app")
async def above(pool: Opened, below: Annotated[None, Depends(below)]) -> AsyncIterator[None]:
    """Be closed before the pool is."""
    say("opened")
    yield
    say("above closed")


app = FastAPI(lifespan=lifespan(also=[above], grace=1))


@app.get("/ready")
async def ready(pool: Opened) -> JSONResponse:
    """Tell how the pool is doing, and borrow nothing."""
    return JSONResponse({**asdict(pool.stats), "under_way": under_way})


@app.post("/go-on")
async def let_go_on() -> None:
    """Let what waits go on."""
    go_on.set()
    go_on.clear()


@app.get("/echo/{number}")
async def echo(number: int, ask: Reading) -> dict[str, int]:
    """Give back what the database says, and who has asked whom."""
    said, session = (await ask("SELECT concat(CAST($1 AS int), ' ', pg_backend_pid())", number)).split()
    return {"number": said, "session": session, "worker": os.getpid()}


@app.post("/rows/{number}", status_code=201)
async def write(number: int, ask: Writing) -> None:
    """Write a row."""
    await ask("INSERT INTO written VALUES ($1) RETURNING id", number)


@app.get("/rows/{number}")
async def read(number: int, ask: Reading) -> bool:
    """Tell whether a row is there."""
    return bool(await ask("SELECT EXISTS (SELECT FROM written WHERE id = $1)", number))


@app.get("/stream")
async def stream(ask: Writing) -> StreamingResponse:
    """Ask for something, then stream what has nothing to do with the database."""
    await ask("SELECT 1")

    async def ticks() -> AsyncIterator[str]:
        with counted("streams"):
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(1)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/querying", response_class=EventSourceResponse)
async def querying(ask: Reading) -> AsyncIterator[ServerSentEvent]:
    """Ask for each chunk."""
    for number in range(20):
        yield ServerSentEvent(data=await ask("SELECT CAST($1 AS int)", number))


@app.post("/background")
async def background(ask: Writing, read: Reading, tasks: BackgroundTasks) -> None:
    """Ask for something, then work for long in the background, and ask again."""
    await ask("SELECT 1")

    async def work() -> None:
        with counted("background tasks"):
            await read("SELECT 1")
            await long()
            await read("SELECT 1")

    tasks.add_task(work)


@app.websocket("/socket")
async def socket(websocket: WebSocket, ask: Reading) -> None:
    """Ask for something for each message."""
    await websocket.accept()
    with suppress(WebSocketDisconnect), counted("websockets"):
        while True:
            await websocket.send_json(await ask("SELECT CAST($1 AS int)", int(await websocket.receive_text())))


@app.get("/upstream")
async def upstream(ask: Reading) -> int:
    """Ask for something, then wait for another service for long."""
    found = await ask("SELECT 1")
    with counted("handlers"):
        await long()
    return int(found)


@app.get("/hold/{name}")
async def hold(name: str, ask: Writing) -> None:
    """Keep a connection for long, in which it does nothing."""
    await ask("SELECT 1")
    with counted("holders"):
        await long()


@app.get("/impatient/{seconds}", dependencies=[Depends(cancel_on_disconnect)])
async def impatient(seconds: float, ask: Writing) -> None:
    """Keep a connection busy for as long as the client stays."""
    with counted("impatient"):
        await ask("SELECT 1 FROM pg_sleep($1)", seconds)


@app.get("/leak")
async def leak(holding: Holding) -> None:
    """Borrow, and never give back."""
    kept.append(holding.hold())
    ask = await kept[-1].__aenter__()
    await ask("SELECT 1")


together = asyncio.Barrier(SIZE)


@app.get("/nested")
async def nested(ask: Writing, holding: Holding) -> bool:
    """Hold a connection, and when all others are held too, ask for another one."""
    first = await ask("SELECT pg_backend_pid()")
    await together.wait()
    async with holding.hold() as ask_another:
        return bool(await ask_another("SELECT pg_backend_pid()") != first)
