"""What a model takes and gives is read from annotations, for where it crosses to another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tenure.models.types import types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass
class Word:
    """An item."""

    text: str


@dataclass
class Vector:
    """A result."""

    numbers: list[float]


def load(content: bytes, size: int = 3) -> Callable[[list[Word]], list[Vector]]:
    """Load a function, said by what is imported for type checkers alone."""
    del content
    return lambda words: [Vector([float(len(word.text))] * size) for word in words]


class Embedder:
    """A class whose objects are called."""

    def __init__(self, content: bytes) -> None:
        """Load nothing."""

    def __call__(self, words: Sequence[Word]) -> Sequence[Vector]:
        """Give a vector for each."""
        return [Vector([float(len(word.text))]) for word in words]


def made(content: bytes) -> Embedder:
    """Load one."""
    return Embedder(content)


@pytest.mark.parametrize("how", [load, partial(load, size=2), Embedder, made])
def test_items_and_results_are_what_the_annotations_say(how: Callable[..., Any]) -> None:
    """Of a function, a part of one, a class, or a function that gives an object of it."""
    types = types_of(how)
    assert types.item.made({"text": "hello"}) == Word("hello")
    assert types.result.made({"numbers": [1.0]}) == Vector([1.0])
