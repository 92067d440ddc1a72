"""Search by meaning; the workers of this machine keep for each other what was found, for a short time."""

from __future__ import annotations

import hashlib
from typing import Annotated

import structlog
from fastapi import Depends

from roster.embedder import Embedder
from roster.repository import Repository, Users
from roster.revisions import CurrentRevisions, Revisions
from roster.schemas import Match
from tenure import Cache, scoped
from tenure.errors import StateFull, StateTooLarge, StateUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("roster")

found = Cache("found", scope="host", ttl=30, type=list[Match])
"""What searches have found. What this machine's workers write they see at once, what other machines write in 30 s."""

Found = Annotated[Cache[list[Match]], Depends(found)]


class Search:
    """Finds users by what their bios mean; shared by all requests of this worker."""

    def __init__(self, found: Cache[list[Match]], revisions: Revisions, embedder: Embedder, users: Repository) -> None:
        self._found = found
        self._revisions = revisions
        self._embedder = embedder
        self._users = users

    async def __call__(self, question: str, limit: int) -> list[Match]:
        """
        Give the users whose bios are nearest in meaning, nearest first: as they were kept, else as they are.

        Whatever becomes of the place where answers are kept, it is answered.

        Raises:
            Unavailable: The database was not to be had in time; the answer is 503.
            ModelBusy: Too many wait for the model; the answer is 503.
            ModelLate: The model was not to be had in time; the answer is 504.
        """
        loaded: list[Match] | None = None

        async def load() -> list[Match]:
            nonlocal loaded
            loaded = await self._nearest(question, limit)
            return loaded

        # Read before the load, so that no older answer is kept under a newer revision. As a digest, whatever is asked.
        asked = "\0".join((self._revisions.current, self._embedder.version, str(limit), question))
        try:
            return await self._found.get_or_load(hashlib.sha256(asked.encode()).hexdigest(), load)
        except (StateUnavailable, StateFull, StateTooLarge) as error:
            log.warning("what a search finds is not kept", reason=error.message)
            return await load() if loaded is None else loaded

    async def _nearest(self, question: str, limit: int) -> list[Match]:
        return await self._users.nearest(await self._embedder(question), limit=limit)


@scoped("app")
async def search(found: Found, revisions: CurrentRevisions, embedder: Embedder, users: Users) -> Search:
    """Search with the model of this machine, over this worker's connections."""
    return Search(found, revisions, embedder, users)


Searching = Annotated[Search, Depends(search)]
