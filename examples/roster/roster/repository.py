"""Every statement that reads or writes users."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterable, AsyncIterator, Generator
from contextlib import contextmanager
from typing import Annotated

import asyncpg
import numpy as np
from fastapi import Depends

from roster.database import Statements
from roster.embedder import Embedding
from roster.revisions import CurrentRevisions, Revisions
from roster.schemas import Match, NewUser, Page, User, UserChange, UserName
from tenure import scoped

CHUNK = 500
"""Embeddings that a search holds in memory at a time."""
ARRAY_HEADER = 20
"""Bytes before the numbers when PostgreSQL sends a one-dimensional array."""
ARRAY_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])
"""How it sends each number of a `real[]`."""


class UsernameTaken(Exception):
    """Raised when another user has the name."""


class Repository:
    """
    The users; each method is one statement, and atomic, on a connection that it borrows for itself.

    What one of them has changed is in every search that begins after it, on this machine.
    """

    def __init__(self, connection: Statements, revisions: Revisions) -> None:
        self._connection = connection
        self._revisions = revisions

    async def page(self, page: Page) -> tuple[list[UserName], Page | None]:
        """Give a page of users, by id, and which page follows, if there are more."""
        rows = await self._connection.fetch(
            "SELECT id, username FROM users WHERE id > $1 AND starts_with(username, $2) ORDER BY id LIMIT $3",
            page.after,
            page.username,
            page.limit + 1,
        )
        users = [UserName(id=row["id"], username=row["username"]) for row in rows[: page.limit]]
        more = len(rows) > page.limit
        return users, page.model_copy(update={"after": users[-1].id}) if more else None

    async def get(self, user_id: int) -> User | None:
        """Give the user, or None."""
        row = await self._connection.fetchrow(
            "SELECT id, username, email, bio, created_at FROM users WHERE id = $1", user_id
        )
        return User(**row) if row else None

    async def add(self, user: NewUser, embedding: Embedding) -> User:
        """
        Add a user.

        Raises:
            UsernameTaken: Another user has the name.
        """
        with self._changing():
            row = await self._connection.fetchrow(
                """
                INSERT INTO users (username, email, bio, embedding, embedding_version) VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (username) DO NOTHING RETURNING id, username, email, bio, created_at
                """,
                user.username,
                user.email,
                user.bio,
                embedding.vector,
                embedding.version,
            )
        if row is None:
            raise UsernameTaken
        return User(**row)

    async def change(self, user_id: int, change: UserChange, embedding: Embedding | None) -> User | None:
        """
        Change a user, or give None where there is none; `embedding` is that of the new bio, None when that stays.

        Raises:
            UsernameTaken: Another user has the name.
        """
        try:
            with self._changing():
                row = await self._connection.fetchrow(
                    """
                    UPDATE users SET
                        username = coalesce($2, username), email = coalesce($3, email), bio = coalesce($4, bio),
                        embedding = coalesce($5, embedding), embedding_version = coalesce($6, embedding_version)
                    WHERE id = $1 RETURNING id, username, email, bio, created_at
                    """,
                    user_id,
                    change.username,
                    change.email,
                    change.bio,
                    embedding.vector if embedding else None,
                    embedding.version if embedding else None,
                )
        except asyncpg.UniqueViolationError:
            raise UsernameTaken from None
        return User(**row) if row else None

    async def remove(self, user_id: int) -> bool:
        """Remove the user, embedding and all, and tell whether there was one."""
        with self._changing():
            removed = await self._connection.fetchval("DELETE FROM users WHERE id = $1 RETURNING true", user_id)
        return removed is not None

    @contextmanager
    def _changing(self) -> Generator[None]:
        try:
            yield
        finally:  # a statement whose answer was lost may have changed something too
            self._revisions.end()

    async def nearest(self, meaning: Embedding, *, limit: int) -> list[Match]:
        """
        Give the users whose bios are nearest in meaning, nearest first.

        Every embedding of the same version is compared, a chunk at a time: exact, and fast enough for ten thousand.
        """
        best: list[tuple[float, asyncpg.Record]] = []
        question = np.array(meaning.vector, dtype=np.float32)
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            rows = self._connection.cursor(
                "SELECT id, username, bio, array_send(embedding) AS embedding FROM users"
                " WHERE embedding_version = $1 AND bio <> ''",
                meaning.version,
                prefetch=CHUNK,
            )
            async for chunk in _chunks(rows):
                scores = (_matrix(chunk) @ question).tolist()
                best = heapq.nlargest(limit, [*best, *zip(scores, chunk, strict=True)], key=lambda scored: scored[0])
        return [Match(id=row["id"], username=row["username"], bio=row["bio"], score=score) for score, row in best]


async def _chunks(rows: AsyncIterable[asyncpg.Record]) -> AsyncIterator[list[asyncpg.Record]]:
    chunk: list[asyncpg.Record] = []
    async for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _matrix(rows: list[asyncpg.Record]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    # As bytes, because the driver would make a Python float of each of the 384 numbers of each row.
    numbers = b"".join(row["embedding"][ARRAY_HEADER:] for row in rows)
    return np.frombuffer(numbers, ARRAY_ELEMENT)["value"].astype(np.float32).reshape(len(rows), -1)


@scoped("app")
async def repository(connection: Statements, revisions: CurrentRevisions) -> Repository:
    """Share the users among this worker's requests: nothing of theirs is kept in it."""
    return Repository(connection, revisions)


Users = Annotated[Repository, Depends(repository)]
