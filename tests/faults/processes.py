"""What the kernel knows of a process, and the wait until something is so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.serving import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


def gone(process: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return b") Z" in Path(f"/proc/{process}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the latter between open and read
        return True


def parent(process: int) -> int:
    """Give the parent of a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)
