"""The users' avatars."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Response, status

from roster.avatars import MEDIA_TYPES, Avatar, Avatars, uploaded
from roster.content import content
from roster.limits import few_writes
from roster.problems import documented
from roster.schemas import UserId

router = APIRouter(prefix="/users/{user_id}/avatar", tags=["avatars"], responses=documented(404, 422, 503))

IMAGES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()
}
TAG = {"ETag": {"description": "Changes when the image does.", "schema": {"type": "string"}}}
NO_AVATAR = "there is no avatar of a user with this id"


@router.get(
    "",
    response_class=Response,
    responses={200: {"content": IMAGES, "headers": TAG}, 304: {"description": "It is the one that you have."}},
)
async def read_avatar(user_id: UserId, avatars: Avatars, if_none_match: Annotated[str, Header()] = "") -> Response:
    """Give a user's avatar; browsers may keep it, and ask each time whether it is still the same."""
    avatar = await avatars.get(user_id)
    if avatar is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, NO_AVATAR)
    headers = {"ETag": avatar.tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if avatar.tag in re.findall('"[^"]*"', if_none_match):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(avatar.image, headers=headers, media_type=avatar.media_type)


@router.put(
    "",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[Depends(few_writes), Depends(content.room)],
    responses={204: {"headers": TAG}, **documented(413, 415, 429, 504)},
    openapi_extra={"requestBody": {"required": True, "content": IMAGES}},
)
async def put_avatar(
    user_id: UserId, response: Response, avatar: Annotated[Avatar, Depends(uploaded)], avatars: Avatars
) -> None:
    """Give a user an avatar, which is the body of the request: a PNG, JPEG, WebP or GIF image of at most 1 MiB."""
    if not await avatars.put(user_id, avatar):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no user with this id")
    response.headers["ETag"] = avatar.tag


@router.delete(
    "", status_code=status.HTTP_204_NO_CONTENT, dependencies=[Depends(few_writes)], responses=documented(429)
)
async def remove_avatar(user_id: UserId, avatars: Avatars) -> None:
    """Remove a user's avatar."""
    if not await avatars.remove(user_id):
        raise HTTPException(status.HTTP_404_NOT_FOUND, NO_AVATAR)
