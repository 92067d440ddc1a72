"""pyzmq: a DEALER on asyncio with many calls under way, and a ROUTER in a loop that blocks, which is its fastest."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import zmq
import zmq.asyncio

from benchmarks.calls.subject import Calling, process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

NOTE = "bytes as they are; the other process has no event loop"


@asynccontextmanager
async def calling(folder: Path) -> AsyncGenerator[list[Calling]]:
    """Call it, for a block."""
    path = folder / "zmq"
    answers: dict[bytes, asyncio.Future[bytes]] = {}
    numbers = count()
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as dealer:
        async with process(__name__, path):
            dealer.connect(f"ipc://{path}")

            async def receive() -> None:
                while True:
                    number, data = await dealer.recv_multipart()
                    answers.pop(number).set_result(data)

            async def call(data: bytes) -> bytes:
                number = next(numbers).to_bytes(8)
                answer = answers[number] = asyncio.get_running_loop().create_future()
                await dealer.send_multipart([number, data])
                return await answer

            receiving = asyncio.create_task(receive())
            try:
                yield [Calling("pyzmq, DEALER and ROUTER", call, NOTE)]
            finally:
                receiving.cancel()
                with suppress(asyncio.CancelledError):
                    await receiving


def serve(path: str) -> None:
    """Give back what comes."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"ipc://{path}")
        while True:
            router.send_multipart(router.recv_multipart())


if __name__ == "__main__":
    serve(sys.argv[1])
