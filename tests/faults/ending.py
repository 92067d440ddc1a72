"""An app for real servers: what it serves ends by itself, when told of the shutdown, when cancelled, or not at all."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tenure import ShuttingDown, lifespan, scoped, shutting_down

Stop = Annotated[ShuttingDown, Depends(shutting_down)]


def say(line: str) -> None:
    """Tell the test, with who says it, in one write, as several processes have this output."""
    os.write(1, f"{os.getpid()} {line}\n".encode())


@scoped("app")
async def below() -> AsyncIterator[str]:
    """Be what the others stand on."""
    yield "below"
    say("below closed")


@scoped("app", close_timeout=0.25)
async def hanging(below: Annotated[str, Depends(below)]) -> AsyncIterator[str]:
    """Hang, where the environment says so, until it is cancelled."""
    yield below
    try:
        if os.environ.get("HANGS"):
            await asyncio.Event().wait()
    finally:
        say("hanging closed")


@scoped("app")
async def beat(hanging: Annotated[str, Depends(hanging)], stop: Stop) -> AsyncIterator[asyncio.Task[None]]:
    """Run a task beside the app that waits for the shutdown."""

    async def told() -> None:
        await stop.wait()
        say("beat told")

    task = asyncio.create_task(told())
    say("opened")
    yield task
    await task
    say("beat closed")


app = FastAPI(lifespan=lifespan(also=[beat], grace=float(os.environ["GRACE"])))


async def ticks() -> AsyncIterator[ServerSentEvent]:
    """Never end."""
    try:
        while True:
            yield ServerSentEvent(data="tick")
            await asyncio.sleep(0.05)
    finally:
        say("ticks ended")


@app.get("/told", response_class=EventSourceResponse)
async def told(stop: Stop) -> AsyncIterator[ServerSentEvent]:
    """End with a last event when the shutdown begins."""
    async for tick in stop.ends(ticks()):
        yield tick
    yield ServerSentEvent(data="goodbye")


@app.get("/untold", response_class=EventSourceResponse)
async def untold() -> AsyncIterator[ServerSentEvent]:
    """Know nothing of the shutdown."""
    async for tick in ticks():
        yield tick


@app.get("/flood")
async def flood() -> StreamingResponse:
    """Send more than a client takes that does not read."""

    async def more() -> AsyncIterator[bytes]:
        while True:
            yield bytes(2**20)
            await asyncio.sleep(0)

    return StreamingResponse(more())


@app.get("/minute")
async def minute() -> str:
    """Wait for something far away."""
    say("minute began")
    await asyncio.sleep(60)
    return "never"


@app.get("/work")
async def work(stop: Stop) -> str:
    """Be in the middle of something when the shutdown begins, and end it within the grace."""
    say("work began")
    await stop.wait()
    await asyncio.sleep(0.2)
    return "done"


@app.get("/deaf")
async def deaf() -> None:
    """Swallow every cancellation."""
    say("deaf began")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say("deaf cancelled")


@app.get("/thread")
def thread() -> str:
    """Wait in a thread."""
    say("thread began")
    time.sleep(float(os.environ.get("THREAD", "5")))
    say("thread ended")
    return "done"


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    """Wait for a message that does not come."""
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.receive_text()


@app.websocket("/pushing")
async def pushing(websocket: WebSocket) -> None:
    """Wait for something else than the client."""
    await websocket.accept()
    await websocket.send_text("hello")
    await asyncio.sleep(60)
