"""What is called in another process, and how a contender calls it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

DATA = bytes(range(256)) * 16
"""What is sent and comes back: 4 KB."""
AT_ONCE = 32
"""How many call at once."""
DEADLINE = 20
"""Seconds that a process may take to start."""


@dataclass(frozen=True)
class Calling:
    """
    How a contender calls.

    Attributes:
        name: What tables call it.
        call: Sends bytes, and gives those that come back.
        note: What is to be known of it.
        blocks: Whether the event loop stands still meanwhile, so that a service could not do so.
    """

    name: str
    call: Callable[[bytes], Awaitable[bytes]]
    note: str = ""
    blocks: bool = False


@asynccontextmanager
async def process(module: str, path: Path) -> AsyncGenerator[None]:
    """Run a module that serves at a socket, until the block ends."""
    command = [sys.executable, "-m", module, str(path)]
    with subprocess.Popen(command) as served:  # noqa: S603, ASYNC220 (a command of our own)
        try:
            async with asyncio.timeout(DEADLINE):
                while not path.exists():  # noqa: ASYNC110, ASYNC240 (another process makes it, while nothing else runs)
                    await asyncio.sleep(0.01)
            yield
        finally:
            served.terminate()
