"""A class whose methods take and give what crosses with more care than plain data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, RootModel, SecretStr

from tenure import scoped
from tenure.remote import hosted
from tests.remote.things import Point, here

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Login(BaseModel):
    """A model whose fields have other names outside, one of them a secret."""

    name: str = Field(alias="userName")
    since: date = Field(validation_alias="from")
    password: SecretStr


class Strict(BaseModel, strict=True):
    """A model that takes a date for a date, and nothing else."""

    day: date


class Numbers(RootModel[list[int]]):
    """A model that is a list."""


@dataclass
class Found:
    """A dataclass that holds an array."""

    ids: list[int]
    vectors: NDArray[np.float64]


@dataclass
class Unset:
    """A dataclass whose second field nobody has set."""

    number: int
    cache: dict[str, int] = field(init=False)


class Unspeakable(Exception):
    """An error that cannot be put into words."""

    def __str__(self) -> str:
        raise KeyError


@hosted(max_waiting=4)
class Carrier:
    """What is called."""

    def login(self, login: Login) -> Login:
        """Give it back."""
        assert login.password.get_secret_value() == "hunter2"
        return login

    def strict(self, strict: Strict) -> Strict:
        """Give it back."""
        return strict

    def numbers(self, numbers: Numbers) -> Numbers:
        """Give them back."""
        assert isinstance(numbers, Numbers)
        return numbers

    def found(self, found: Found) -> Found:
        """Double what was found."""
        return Found(found.ids * 2, found.vectors * 2)

    def kinds(self, first: Point, *points: Point, **named: Point) -> list[str]:
        """Tell of which classes the arguments are."""
        return [type(each).__name__ for each in (first, *points, *named.values())]

    def points(self, many: Sequence[Point]) -> Iterator[Point]:
        """Give points, by annotations that are imported for type checkers alone."""
        assert all(isinstance(point, Point) for point in many)
        yield from many

    def unset(self) -> Unset:
        """Give what cannot be read."""
        return Unset(1)

    async def many_unset(self) -> AsyncIterator[Any]:
        """Give a number, and what cannot be read, again and again."""
        try:
            yield 1
            for _ in range(100):
                yield Unset(1)
        finally:
            here("many ended").touch()

    def unspeakable(self) -> None:
        """Raise it."""
        raise Unspeakable(3)

    async def unspeakable_later(self) -> None:
        """Raise it in the event loop."""
        raise Unspeakable(3)

    def missing(self) -> None:
        """Raise an error of the system."""
        Path("/nowhere/at/all").read_text()

    def undecodable(self) -> None:
        """Raise an error that names what is no UTF-8."""
        raise FileNotFoundError(2, "No such file", b"/tmp/\xff".decode(errors="surrogateescape"))

    def immense(self) -> None:
        """Raise an error with very much to say."""
        raise LookupError("x" * 10_000_000)

    def greet(self, name: str) -> str:
        """Greet."""
        return f"hello {name}"


carrier = scoped("host")(Carrier)
