"""What a message costs: one at a time, there and back, and many through one subscriber."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.state import with_redis, with_tenure
from benchmarks.state.interleaved import awaited, compared, interleaved
from benchmarks.state.subject import VALUE
from benchmarks.verification import NotTheWork

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.results import Ratio
    from benchmarks.state.plan import Plan
    from benchmarks.state.subject import Sending

PUBLISHERS = 32
"""Tasks that publish at the same time, as the requests of a server do."""
ROUNDS = 7


async def measure(url: str, plan: Plan, advance: Callable[[str], object]) -> list[Ratio]:
    """
    Compare those that share a server; one subscriber is in the process that publishes.

    Raises:
        NotTheWork: A contender receives something else, or less.
    """
    async with AsyncExitStack() as stack:
        contenders = [
            await stack.enter_async_context(with_redis.sending(url)),
            await stack.enter_async_context(with_tenure.sending()),
        ]
        title = "topic of the host: a message is published and received"
        advance(title)
        found = await interleaved({each.name: partial(there_and_back, each) for each in contenders}, plan.effort)
        rows = compared("topic-one", title, found, {})
        title = f"topic of the host: {plan.messages:,} messages, the time of one"
        advance(title)
        through = {each.name: partial(many, each) for each in contenders}
        found = await interleaved(through, plan.shorter(ROUNDS).effort, calls=plan.messages)
        notes = {name: f"{1 / median(seconds):,.0f} in a second" for name, seconds in found.items()}
        return [*rows, *compared("topic-many", title, found, notes)]


async def there_and_back(contender: Sending, times: int) -> float:
    """Publish one after the other has been received."""

    async def message(_: int) -> None:
        await contender.publish(VALUE)
        expect(contender, await contender.receive())

    return await awaited(message, times)


async def many(contender: Sending, times: int) -> float:
    """Publish from several tasks while this one receives."""
    left = iter(range(times))

    async def publish() -> None:
        for _ in left:
            await contender.publish(VALUE)

    begin = perf_counter()
    published = asyncio.gather(*(publish() for _ in range(PUBLISHERS)))
    try:
        for _ in range(times):
            expect(contender, await contender.receive())
        taken = perf_counter() - begin
        await published
    finally:
        published.cancel()
    return taken / times


def expect(contender: Sending, received: object) -> None:
    """Refuse a contender that gives something else, such as that it has missed some."""
    if received != VALUE:
        msg = f"{contender.name} receives {received!r} instead of what was published"
        raise NotTheWork(msg)
