"""A number of connections that the workers of a machine share: each has its part, and nobody has more."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from tenure.host import locks
from tenure.host.supervisor import SYSTEMS
from tenure.pools.errors import BudgetExceeded
from tenure.state.deployments import current_deployment
from tenure.state.stores import places
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tenure.pools.settings import PoolSettings

PATIENCE = 10.0
"""Seconds that a worker waits for the part of one that is about to leave, as in a rolling restart."""
POLL = 0.1
"""Seconds between two looks for one."""
_DIGITS = 12


@asynccontextmanager
async def within_budget(name: str, settings: PoolSettings) -> AsyncGenerator[int]:
    """
    Give how many connections this worker may have, for a block.

    Where `max_connections` is said, the block holds one of as many parts as there are workers. The kernel drops it
    however the worker dies.

    Raises:
        BudgetExceeded: All parts are held: there are more workers than was said.
    """
    size = settings.size()
    if settings.max_connections is None or sys.platform not in SYSTEMS:
        yield size
        return
    part = await _taken(name, settings)
    try:
        yield size
    finally:
        part.release()


async def _taken(name: str, settings: PoolSettings) -> locks.Lock:
    folder = await in_worker(partial(places.settled, current_deployment(), "pools"))
    told = f"{name}\0{settings.dsn}\0{settings.max_connections}\0{settings.sharers}"
    key = hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while (part := await _found(partial(_free, folder, key, settings.sharers))) is None:
        if loop.time() > until:
            msg = (
                f"pool `{name}` may have {settings.max_connections} connections in {settings.sharers} workers, "
                "and there are more workers than that"
            )
            raise BudgetExceeded(msg, path=[f"parts are in {folder}"], hint="say how many: `workers=`")
        await asyncio.sleep(POLL)
    return part


async def _found(look: Callable[[], locks.Lock | None]) -> locks.Lock | None:
    """Look for a part in a thread, and keep none where the caller is cancelled meanwhile."""
    found: list[locks.Lock | None] = []
    try:
        await in_worker(lambda: found.append(look()))
    except BaseException:
        for part in found:
            if part is not None:
                part.release()
        raise
    return found[0]


def _free(folder: Path, key: str, parts: int) -> locks.Lock | None:
    for number in range(parts):
        part = locks.take(folder / f"{key}-{number}")
        if part is not None:
            return part
    return None
