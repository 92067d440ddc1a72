"""grpc.aio: a generic handler, whose messages are bytes as they are."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import uvloop

from benchmarks.calls.subject import Calling, process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

SERVICE, METHOD = "Echo", "echo"


@asynccontextmanager
async def calling(folder: Path) -> AsyncGenerator[list[Calling]]:
    """Call it, for a block."""
    path = folder / "grpc"
    async with process(__name__, path), grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await channel.channel_ready()
        echo = channel.unary_unary(f"/{SERVICE}/{METHOD}")

        async def call(data: bytes) -> bytes:
            echoed: bytes = await echo(data)
            return echoed

        yield [Calling("grpc.aio", call, "bytes as they are, without protobuf")]


async def serve(path: str) -> None:
    """Give back what comes."""

    async def echo(data: bytes, context: Any) -> bytes:  # noqa: ANN401 (grpc has no types)
        del context
        return data

    server = grpc.aio.server()
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
