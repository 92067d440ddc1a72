"""The count of requests."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from roster.schemas import Stats
from tenure import Counter

requests = Counter("requests", scope="host")
Requests = Annotated[Counter, Depends(requests)]

router = APIRouter(tags=["stats"])


@router.get("/stats")
async def stats(requests: Requests) -> Stats:
    """Add one to the count, and answer it."""
    return Stats(total_requests=requests.add())
