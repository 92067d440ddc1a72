"""A storm of cancellations, as clients that leave and timeouts make one."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AT_ONCE = 50


async def storm(request: Callable[[], Awaitable[int]], by: str, rounds: int) -> int:
    """
    Make requests, 50 at once, and cancel each at any point; give how many were answered 200.

    Args:
        request: Gives a status.
        by: What cancels: "task" once, as `asyncio.timeout` does, or "scope" at every wait, as anyio's scopes do.
        rounds: How often.
    """
    chance = random.Random(7)  # noqa: S311 (nothing is secret about it)

    async def in_scope(seconds: float) -> int:
        with anyio.move_on_after(seconds):
            return await request()
        return 0

    async def in_task(seconds: float) -> int:
        task = asyncio.ensure_future(request())
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        await asyncio.wait([task])
        return 0 if task.cancelled() else task.result()

    cancelled = {"scope": in_scope, "task": in_task}[by]
    statuses: list[int] = []
    for _ in range(rounds):
        statuses += await asyncio.gather(*[cancelled(chance.uniform(0, 0.2)) for _ in range(AT_ONCE)])
    assert set(statuses) <= {0, 200}
    return statuses.count(200)
