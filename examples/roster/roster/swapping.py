"""Another model for all workers of this machine, while they run, and embeddings that it has made."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from roster.database import users
from roster.embedder import embedder
from roster.embeddings import embedded
from roster.main import app
from roster.revisions import revisions
from roster.settings import settings
from tenure import running
from tenure.errors import NotRunning
from tenure.lifespan import is_served

if TYPE_CHECKING:
    from tenure import Scope
    from tenure.models import ModelFile


async def swap(file: ModelFile) -> None:
    """
    Swap the model, tell so, and embed every bio anew, with a bar that shows how far that is.

    Raises:
        NotRunning: No worker runs on this machine.
        ModelRefused: The file is not what it is said to be; likewise what else a swap raises. All is as before.
        CallTimeout: The model's process does not answer, and may have swapped it: to be run again once that does.
    """
    logging.getLogger().setLevel(logging.WARNING)  # what it joins is no news
    if not await asyncio.to_thread(is_served, app, embedder):
        message = "no worker of roster runs on this machine, for this user, in this deployment"
        hint = "start it; or run this as its user, in its folder, with its TENURE_DEPLOYMENT and XDG_RUNTIME_DIR"
        raise NotRunning(message, hint=hint)
    async with running(app) as scope:
        model = await scope.get(embedder)
        before = model.version
        after = await model.swap(file)
        print(f"{before} -> {after}")  # noqa: T201 (this is a command)
        await _embed_anew(scope, after)


async def _embed_anew(scope: Scope, version: str) -> None:
    pool, model, changes = await scope.get(users), await scope.get(embedder), await scope.get(revisions)
    # By then, whoever had an embedding of the model before has written it, or failed to: the wait, and the statement.
    until = monotonic() + 2 * (await scope.get(settings)).pool_timeout
    async with pool.borrow() as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM users WHERE embedding_version IS DISTINCT FROM $1", version
        )
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("embedding bios", total=count)
        async for written in embedded(pool, model, changes):
            progress.advance(bar, written)
        if count:
            progress.update(bar, description="waiting for writes that began before")
            await asyncio.sleep(until - monotonic())
        async for written in embedded(pool, model, changes):
            progress.advance(bar, written)
