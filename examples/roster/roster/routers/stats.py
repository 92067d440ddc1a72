"""The count of requests, asked for or watched."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse

from roster.counts import Announcing, News, Requests
from roster.problems import documented
from roster.schemas import Stats
from tenure import MISSED, ShuttingDown, shutting_down

router = APIRouter(tags=["stats"])


@router.get("/stats")
async def stats(requests: Requests, announcer: Announcing) -> Stats:
    """Add one to the count of all workers of this machine, and answer it."""
    total = requests.add()
    announcer.note()
    return Stats(total_requests=total)


@router.get("/stats/live", response_class=EventSourceResponse, responses=documented(503))
async def live(
    requests: Requests, news: News, stop: Annotated[ShuttingDown, Depends(shutting_down)]
) -> AsyncIterable[Stats]:
    """
    Stream the count as server-sent events: the present one, then each new one, until client or server leaves.

    However fast it grows, some ten times a second; each event is higher than the one before.
    """
    shown = requests.value
    yield Stats(total_requests=shown)
    async for message in stop.ends(news):
        count = requests.value if message is MISSED else message
        if count > shown:  # workers announce side by side, and an older count may come later
            shown = count
            yield Stats(total_requests=shown)
