"""A server that falls silent under those who ask it: the same for every driver's pool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tenure.pools.errors import Unreachable
from tests.pools.apps import SIZE
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenure.pools.base import BasePool
    from tests.pools.proxy import Proxy

T = TypeVar("T")

MANY = 3 * SIZE


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer, and give it."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await ask()
            except Unreachable:
                await asyncio.sleep(0.01)


async def outlive_silence(
    proxy: Proxy, pool: BasePool[Any], ask: Callable[[], Awaitable[T]], answer: T
) -> list[T | BaseException]:
    """
    Let the server fall silent under many who ask, and speak again.

    Who waits for an answer is ended, whoever comes then is refused at once, and what follows is answered.

    Returns:
        What those heard who were waiting.
    """
    loop = asyncio.get_running_loop()
    proxy.fall_silent()
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*[ask() for _ in range(MANY)], return_exceptions=True)
    began = loop.time()
    with pytest.raises(Unreachable, match=f"the server of pool `{pool.name}` is silent"):
        await ask()
    assert loop.time() - began < 1
    proxy.speak()
    assert await answered(ask) == answer
    assert await asyncio.gather(*[ask() for _ in range(MANY)]) == [answer] * MANY
    await until(lambda: pool.stats.in_use == 0)
    return outcomes
