"""The directory of users."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, status

from roster.embedder import Embedder, Embedding, embedder
from roster.limits import few_writes
from roster.problems import documented
from roster.repository import Users
from roster.schemas import Match, NewUser, Page, Question, User, UserChange, UserId, UserName
from roster.search import Searching

router = APIRouter(prefix="/users", tags=["users"], responses=documented(422, 503))

# Solved first: a write beyond the limit costs neither a turn of the model nor a connection.
LIMITED = [Depends(few_writes)]


def _with_header(name: str, description: str) -> dict[str, Any]:
    """Describe a header of an answer for OpenAPI."""
    return {"headers": {name: {"description": description, "schema": {"type": "string"}}}}


async def embedded_user(user: NewUser, embedder: Embedder) -> tuple[NewUser, Embedding]:
    """Take a new user, with what the bio means."""
    return user, await embedder(user.bio)


async def embedded_change(change: UserChange, embedder: Embedder) -> tuple[UserChange, Embedding | None]:
    """Take a change, with what the bio means if that changes."""
    return change, None if change.bio is None else await embedder(change.bio)


def _found(user: User | None) -> User:
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no user with this id")
    return user


@router.get("", responses={200: _with_header("Link", 'The next page, as `rel="next"`; absent on the last.')})
async def list_users(
    request: Request, response: Response, page: Annotated[Page, Query()], users: Users
) -> list[UserName]:
    """List users by id; where there are more, the header `Link` has the next page."""
    found, following = await users.page(page)
    if following is not None:
        query = urlencode(following.model_dump(exclude_defaults=True))
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return found


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[*LIMITED, Depends(embedder.room)],
    responses={201: _with_header("Location", "Where the user is."), **documented(400, 409, 413, 429, 504)},
)
async def add_user(
    request: Request,
    response: Response,
    given: Annotated[tuple[NewUser, Embedding], Depends(embedded_user)],
    users: Users,
) -> User:
    """Add a user; the header `Location` says where."""
    added = await users.add(*given)
    response.headers["Location"] = f"{request.url.path}/{added.id}"
    return added


@router.get("/search", responses=documented(504))
async def search_users(
    q: Annotated[Question, Query(description="What to look for, in plain words.")],
    search: Searching,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> list[Match]:
    """Find users by what their bios mean, nearest first: a ranking, not a truth, and best in English."""
    return await search(q, limit)


@router.get("/{user_id}", responses=documented(404))
async def read_user(user_id: UserId, users: Users) -> User:
    """Give one user."""
    return _found(await users.get(user_id))


@router.patch("/{user_id}", dependencies=LIMITED, responses=documented(400, 404, 409, 413, 429, 504))
async def change_user(
    user_id: UserId,
    given: Annotated[tuple[UserChange, Embedding | None], Depends(embedded_change)],
    users: Users,
) -> User:
    """Change what is given of a user."""
    return _found(await users.change(user_id, *given))


@router.delete(
    "/{user_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=LIMITED, responses=documented(404, 429)
)
async def remove_user(user_id: UserId, users: Users) -> None:
    """Remove a user, and all that was derived from them."""
    if not await users.remove(user_id):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no user with this id")
