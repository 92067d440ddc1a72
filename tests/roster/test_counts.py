"""The count that is watched: what becomes of news that come late, get lost or cannot be sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from roster import counts
from roster.routers.stats import live
from tenure import MISSED, Missed, shutting_down
from tenure.errors import StateUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tenure import Scope

pytestmark = pytest.mark.anyio


async def test_a_stream_shows_no_count_that_is_not_above_the_last(scope: Scope) -> None:
    """An older count that comes late is left out; where news may be lost, the count is read anew."""
    requests = await scope.get(counts.requests)
    now = requests.value

    async def news() -> AsyncIterator[int | Missed]:
        yield now + 2
        yield now + 1
        yield now + 2
        yield MISSED
        requests.add(5)
        yield MISSED

    stop = await scope.get(shutting_down)
    shown = [event.total_requests async for event in live(requests, news(), stop)]
    assert shown == [now, now + 2, now + 5]


async def test_a_count_that_could_not_be_announced_is_announced_later(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the shared server answers again, those who watch learn of what was counted meanwhile."""
    monkeypatch.setattr(counts, "RETRY", 0.01)
    requests = await scope.get(counts.requests)
    tries: list[int] = []
    is_told = asyncio.Event()

    class Away:
        async def publish(self, count: int) -> None:
            tries.append(count)
            if len(tries) < 3:
                msg = "it does not answer"
                raise StateUnavailable(msg)
            is_told.set()

    announcer = counts.Announcer()
    announcing = asyncio.create_task(announcer.announce(requests, Away()))  # type: ignore[arg-type] # a double
    announcer.note()
    await is_told.wait()
    announcing.cancel()
    with suppress(asyncio.CancelledError):
        await announcing
    assert tries == [requests.value] * 3
