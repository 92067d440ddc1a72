"""
What the routes take and give.

What clients send is checked, so it is Pydantic's; what they get was checked when it was stored, so it is plain
dataclasses, which cost next to nothing to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field, StringConstraints

LARGEST_ID = 2**63 - 1
"""The largest number that PostgreSQL's `bigint` holds."""

UserId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        message = "must not contain U+0000 or a lone surrogate, which PostgreSQL cannot store"
        raise ValueError(message)
    return text


Text = Annotated[str, AfterValidator(_storable)]
Username = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
UsernamePrefix = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9._-]*$")]
Email = Annotated[EmailStr, Field(max_length=254)]
Bio = Annotated[Text, Field(max_length=2000)]
Question = Annotated[Text, Field(min_length=1, max_length=500)]


@dataclass(slots=True)
class UserName:
    """A user as a list shows them."""

    id: UserId
    username: str


class Page(BaseModel):
    """Which users a list shows."""

    username: Annotated[UsernamePrefix, Field(description="What the names start with.")] = ""
    after: Annotated[int, Field(ge=0, le=LARGEST_ID, description="The last id of the page before.")] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@dataclass(slots=True)
class User(UserName):
    """A whole user."""

    email: str
    bio: str
    created_at: datetime


@dataclass(slots=True)
class Match(UserName):
    """A user whom a search found."""

    bio: str
    score: Annotated[float, Field(description="How near the bio is in meaning; 1 is the same.")]


class NewUser(BaseModel):
    """What makes a user."""

    model_config = ConfigDict(extra="forbid")

    username: Username
    email: Email
    bio: Bio = ""


class UserChange(BaseModel):
    """What changes in a user; what is absent or null stays as it is."""

    model_config = ConfigDict(extra="forbid")

    username: Username | None = None
    email: Email | None = None
    bio: Bio | None = None


@dataclass(slots=True)
class Stats:
    """What is counted."""

    total_requests: int
