"""Avatars: which images they may be, and every statement that reads or writes one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status

from roster.content import Contents
from roster.database import Statements
from tenure import scoped

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
"""What an avatar may be, as the model calls it and as HTTP does."""
BEGINNINGS = {
    "png": (b"\x89PNG\r\n\x1a\n",),
    "jpeg": (b"\xff\xd8\xff",),
    "webp": (b"RIFF",),
    "gif": (b"GIF87a", b"GIF89a"),
}
"""How such a file begins. A model can be misled by who knows it, as by a page of HTML before an image."""


@dataclass(frozen=True, slots=True)
class Avatar:
    """
    An image.

    Attributes:
        media_type: What it is, by its content.
        tag: Another one for other bytes: the value of the header `ETag`.
        image: Its bytes.
    """

    media_type: str
    tag: str
    image: bytes


async def uploaded(request: Request, contents: Contents) -> Avatar:
    """
    Take an image from a request's body, whatever the header `Content-Type` says.

    Raises:
        HTTPException: 415, for it holds something else.
    """
    image = await request.body()
    found = await contents(image)
    if not image.startswith(BEGINNINGS.get(found.label, ())):
        detail = f"an avatar is a PNG, JPEG, WebP or GIF image, and this looks like: {found.description}"
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, detail)
    return Avatar(MEDIA_TYPES[found.label], f'"{hashlib.sha256(image).hexdigest()}"', image)


class AvatarRepository:
    """The avatars; each method is one statement, and atomic, on a connection that it borrows for itself."""

    def __init__(self, connection: Statements) -> None:
        self._connection = connection

    async def get(self, user_id: int) -> Avatar | None:
        """Give a user's avatar, or None."""
        row = await self._connection.fetchrow("SELECT media_type, tag, image FROM avatars WHERE user_id = $1", user_id)
        return Avatar(**row) if row else None

    async def put(self, user_id: int, avatar: Avatar) -> bool:
        """Give a user this avatar, in the place of another if there is one; tell whether there is such a user."""
        put = await self._connection.fetchval(
            """
            INSERT INTO avatars SELECT id, $2, $3, $4 FROM users WHERE id = $1 FOR KEY SHARE
            ON CONFLICT (user_id) DO UPDATE SET (media_type, tag, image) = ($2, $3, $4) RETURNING true
            """,
            user_id,
            avatar.media_type,
            avatar.tag,
            avatar.image,
        )
        return put is not None

    async def remove(self, user_id: int) -> bool:
        """Remove a user's avatar, and tell whether there was one."""
        removed = await self._connection.fetchval("DELETE FROM avatars WHERE user_id = $1 RETURNING true", user_id)
        return removed is not None


@scoped("app")
async def avatars(connection: Statements) -> AvatarRepository:
    """Share them among this worker's requests: nothing of theirs is kept in it."""
    return AvatarRepository(connection)


Avatars = Annotated[AvatarRepository, Depends(avatars)]
