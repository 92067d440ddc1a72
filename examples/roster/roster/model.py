"""The model that turns text into meaning: one per worker, and the embeddings that it keeps up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends

from roster.database import Pool
from roster.embedder import Embedder
from roster.migrations import LOCK
from roster.repository import Embedding
from roster.revisions import CurrentRevisions
from tenure import scoped

BATCH = 32
"""Bios that are embedded, and written, at a time."""


@scoped("app")
async def model() -> AsyncIterator[Embedder]:
    """Load the model once; all requests of this worker share it."""
    async with Embedder.open(workers=1) as model:
        yield model


Model = Annotated[Embedder, Depends(model)]


async def embed(text: str, model: Embedder) -> Embedding:
    """Give what a text means."""
    [vector] = await model([text])
    return Embedding(vector, model.version)


@scoped("app", start_timeout=600)
async def embeddings(pool: Pool, model: Model, revisions: CurrentRevisions) -> None:
    """Embed every bio that has no embedding of this model's version, batch by batch, in turn with other workers."""
    while await _embed_batch(pool, model):
        revisions.end()


async def _embed_batch(pool: Pool, model: Model) -> int:
    async with pool.borrow() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=60)
        stale = await connection.fetch(
            "SELECT id, bio FROM users WHERE embedding_version IS DISTINCT FROM $1 ORDER BY id LIMIT $2 FOR UPDATE",
            model.version,
            BATCH,
        )
        if stale:
            vectors = await model([row["bio"] for row in stale])
            await connection.executemany(
                "UPDATE users SET embedding = $2, embedding_version = $3 WHERE id = $1",
                [(row["id"], vector, model.version) for row, vector in zip(stale, vectors, strict=True)],
            )
        return len(stale)
