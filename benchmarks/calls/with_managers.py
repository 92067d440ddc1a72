"""multiprocessing.managers: a proxy that blocks, called in threads, as a service on asyncio has to."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

from benchmarks.calls.subject import AT_ONCE, Calling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

NOTE = "nothing else runs in the event loop meanwhile"


class Echo:
    """What is called."""

    def echo(self, data: bytes) -> bytes:
        """Give it back."""
        return data


class Manager(BaseManager):
    """The process of the object."""


Manager.register("Echo", Echo)


@asynccontextmanager
async def calling(folder: Path) -> AsyncGenerator[list[Calling]]:
    """Call it, for a block."""
    manager = Manager(str(folder / "managers"), ctx=get_context("spawn"))
    await asyncio.to_thread(manager.start)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        proxy: Any = manager.Echo()  # type: ignore[attr-defined] # made by `register`

        async def call(data: bytes) -> bytes:
            echoed: bytes = await asyncio.get_running_loop().run_in_executor(threads, proxy.echo, data)
            return echoed

        async def block(data: bytes) -> bytes:
            echoed: bytes = proxy.echo(data)
            return echoed

        yield [
            Calling("multiprocessing.managers, in threads", call, f"{AT_ONCE} threads, each with a connection"),
            Calling(
                "multiprocessing.managers, blocking",
                block,
                NOTE,
                blocks=True,
            ),
        ]
    manager.shutdown()
