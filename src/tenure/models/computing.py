"""What runs in a model's threads: its function, called so that one bad item fails alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from tenure.models.errors import ModelFailed

T = TypeVar("T")
R = TypeVar("R")

Function: TypeAlias = Callable[[list[T]], Iterable[R]]
"""Gives one result for each item, in their order; an exception as a result fails its item."""


def computed(name: str, function: Function[T, R], items: list[T]) -> list[R | BaseException]:
    """
    Give a result, or what went wrong, for each item.

    When the function raises, it is called again with each half of the items, down to those that are at fault. Another
    number of results than of items fails them all: whose they are is not known.
    """
    try:
        results = list(function(items))
    except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
        if len(items) == 1:
            return [error]
        half = len(items) // 2
        return [*computed(name, function, items[:half]), *computed(name, function, items[half:])]
    if len(results) != len(items):
        msg = f"`{name}` got {len(items)} items and gave {len(results)} results"
        hint = "give one result for each item, in their order; an exception as a result fails its item"
        return [ModelFailed(msg, hint=hint) for _ in items]
    return [*results]


def answer(name: str, result: Any) -> Any:  # noqa: ANN401 (any value)
    """Give a result, or an error that a caller may be given: no future can hold the end of an iteration."""
    if isinstance(result, StopIteration) or (isinstance(result, BaseException) and not isinstance(result, Exception)):
        return ModelFailed(f"`{name}` raised {result!r}")
    return result
