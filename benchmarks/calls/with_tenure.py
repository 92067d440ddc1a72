"""`Remote`: the object is a class at host scope."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.calls.subject import AT_ONCE, Calling
from tenure import running, scoped
from tenure.remote import hosted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

NAME = "tenure"
SYNC = "tenure, a sync method"


@hosted(max_waiting=2 * AT_ONCE)
class Echo:
    """What is called."""

    async def echo(self, data: bytes) -> bytes:
        """Give it back, in the event loop."""
        return data

    def threaded(self, data: bytes) -> bytes:
        """Give it back, in the thread that sync methods have."""
        return data


echo = scoped("host")(Echo)


@asynccontextmanager
async def calling(folder: Path) -> AsyncGenerator[list[Calling]]:
    """Call it, for a block."""
    del folder  # the environment names it
    async with running(also=[echo]) as scope:
        handle = await scope.get(echo)
        yield [
            Calling(NAME, partial(handle, Echo.echo)),
            Calling(
                SYNC,
                partial(handle, Echo.threaded),
                "in a thread of the other process, as what blocks",
            ),
        ]
