"""The directory of users."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response, status

from roster.model import Model
from roster.problems import documented
from roster.repository import Embedding, Users
from roster.schemas import LARGEST_ID, Match, NewUser, Question, User, UserChange, UserId, UserName, UsernamePrefix

router = APIRouter(prefix="/users", tags=["users"], responses=documented(422, 503))


# Dependencies are solved in order: the model has done its work before a handler borrows a connection.
async def meaning(q: Annotated[Question, Query(description="What to look for, in plain words.")], model: Model) -> Embedding:
    """Embed what a search asks for."""
    return await _embed(q, model)


async def bio_meaning(user: NewUser, model: Model) -> Embedding:
    """Embed the bio of a new user."""
    return await _embed(user.bio, model)


async def new_bio_meaning(change: UserChange, model: Model) -> Embedding | None:
    """Embed a bio that changes."""
    return None if change.bio is None else await _embed(change.bio, model)


async def _embed(text: str, model: Model) -> Embedding:
    [vector] = await model([text])
    return Embedding(vector, model.version)


def _found(user: User | None) -> User:
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no user with this id")
    return user


@router.get("")
async def list_users(
    request: Request,
    response: Response,
    users: Users,
    username: Annotated[UsernamePrefix, Query(description="What the names start with.")] = "",
    after: Annotated[int, Query(ge=0, le=LARGEST_ID, description="The last id of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[UserName]:
    """List users by id; where there may be more, the header `Link` has the next page."""
    page = await users.page(prefix=username, after=after, limit=limit)
    if len(page) == limit:
        query = {"username": username} if username else {}
        following = urlencode({**query, "after": page[-1].id, "limit": limit})
        response.headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
    return page


@router.post("", status_code=status.HTTP_201_CREATED, responses=documented(400, 409, 413))
async def add_user(
    request: Request,
    response: Response,
    user: NewUser,
    embedding: Annotated[Embedding, Depends(bio_meaning)],
    users: Users,
) -> User:
    """Add a user; the header `Location` says where."""
    added = await users.add(user, embedding)
    response.headers["Location"] = f"{request.url.path}/{added.id}"
    return added


@router.get("/search")
async def search_users(
    meaning: Annotated[Embedding, Depends(meaning)],
    users: Users,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> list[Match]:
    """Find users by what their bios mean, nearest first: a ranking, not a truth, and best in English."""
    return await users.nearest(meaning, limit=limit)


@router.get("/{user_id}", responses=documented(404))
async def read_user(user_id: UserId, users: Users) -> User:
    """Give one user."""
    return _found(await users.get(user_id))


@router.patch("/{user_id}", responses=documented(400, 404, 409, 413))
async def change_user(
    user_id: UserId,
    change: Annotated[UserChange, Body()],
    embedding: Annotated[Embedding | None, Depends(new_bio_meaning)],
    users: Users,
) -> User:
    """Change what is given of a user."""
    return _found(await users.change(user_id, change, embedding))


@router.delete("/{user_id}", status_code=status.HTTP_204_NO_CONTENT, responses=documented(404))
async def remove_user(user_id: UserId, users: Users) -> None:
    """Remove a user, and all that was derived from them."""
    if not await users.remove(user_id):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no user with this id")
