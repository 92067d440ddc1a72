"""The embeddings of all bios, kept up to date with the model: at start, and when it was swapped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from roster.database import Pool
from roster.embedder import Embedder, Embedding
from roster.migrations import LOCK
from roster.revisions import CurrentRevisions, Revisions
from tenure import scoped
from tenure.models import ModelBusy, ModelLate

BATCH = 32
"""Bios that are embedded, and written, at a time."""
PAUSE = 0.5
"""Seconds until the next try where the model has too much to do: requests go first."""


@scoped("app", start_timeout=600)
async def embeddings(pool: Pool, embedder: Embedder, revisions: CurrentRevisions) -> None:
    """Embed every bio that has no embedding of this model's version."""
    async for _ in embedded(pool, embedder, revisions):
        pass


async def embedded(pool: Pool, embedder: Embedder, revisions: Revisions) -> AsyncIterator[int]:
    """
    Embed every bio whose embedding another version has made, or none; give how many each time that some are written.

    In turn with other processes that do so, and beside requests: no row is locked while the model computes. A bio that
    is changed meanwhile keeps the embedding that it was changed with.
    """
    while count := await _embed_batch(pool, embedder):
        revisions.end()
        yield count


async def _embed_batch(pool: Pool, embedder: Embedder) -> int:
    async with pool.borrow() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=60)
        stale = await connection.fetch(
            "SELECT id, bio FROM users WHERE embedding_version IS DISTINCT FROM $1 ORDER BY id LIMIT $2",
            embedder.version,
            BATCH,
        )
        if stale:
            made = await _patiently([row["bio"] for row in stale], embedder)
            await connection.executemany(
                "UPDATE users SET embedding = $3, embedding_version = $4 WHERE id = $1 AND bio = $2",
                [(row["id"], row["bio"], each.vector, each.version) for row, each in zip(stale, made, strict=True)],
            )
        return len(stale)


async def _patiently(texts: list[str], embedder: Embedder) -> list[Embedding]:
    while True:
        try:
            return await embedder.many(texts)
        except (ModelBusy, ModelLate):
            await asyncio.sleep(PAUSE)
