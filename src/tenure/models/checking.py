"""Warming a model up, and holding it to giving an item the same result in a batch as alone."""

from __future__ import annotations

import math
import sys
from dataclasses import fields, is_dataclass
from decimal import Decimal
from numbers import Real
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, TypeVar

from tenure.models.computing import answer, computed
from tenure.models.errors import NotInvariant, WarmupFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenure.models.batching import Batching
    from tenure.models.computing import Function

T = TypeVar("T")
R = TypeVar("R")

TOLERANCE = 1e-3
"""How far two results may be apart: the part of the largest number in them."""
PLAIN = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset)
"""What has a content of its own, beside the attributes that a subclass may give it."""


class Incomparable(Exception):
    """Raised where it cannot be told whether two values are equal; its text is their type, and its cause says why."""

    def __init__(self, value: object) -> None:
        kind = type(value)
        super().__init__(
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )


def warm_up(
    name: str, function: Function[T, R], items: Sequence[T], batching: Batching, tolerance: float | None
) -> None:
    """
    Compute each item alone, then batches of 2, 4 and so on up to the largest, and compare.

    Args:
        name: What errors call the model.
        function: What computes.
        items: Any that the model must be able to compute; batches are made of them in turn.
        batching: How large a batch may be.
        tolerance: How far the results of one item may be apart; nothing compares none.

    Raises:
        WarmupFailed: The function has failed for one.
        NotInvariant: One has another result in a batch than alone, or one that cannot be compared.
    """
    if not items:
        return
    alone = [_results(name, function, [item], f"item {number}")[0] for number, item in enumerate(items)]
    for size in _sizes(batching.max_batch):
        chosen = [number % len(items) for number in range(size)]
        batch = [items[number] for number in chosen]
        count = batching.cut(batch)
        results = _results(name, function, batch[:count], f"a batch of {count}")
        if tolerance is not None:
            for number, result in zip(chosen, results, strict=False):
                _compare(name, number, count, _distance(name, number, alone[number], result), tolerance)


def _sizes(largest: int) -> list[int]:
    sizes = [2**power for power in range(1, largest.bit_length()) if 2**power < largest]
    return [*sizes, largest] if largest > 1 else []


def _results(name: str, function: Function[T, R], items: list[T], what: str) -> list[Any]:
    results = [answer(name, result) for result in computed(name, function, items)]
    failure = next((result for result in results if isinstance(result, BaseException)), None)
    if failure is not None:
        msg = f"`{name}` has failed at {what} of its warm-up: {type(failure).__name__}: {failure}"
        raise WarmupFailed(msg, hint="see the cause; `warmup=[…]` are items as callers give them") from failure
    return results


def _distance(name: str, number: int, alone: object, together: object) -> float:
    try:
        return apart(alone, together)
    except Incomparable as error:
        msg = (
            f"`{name}` gives item {number} of its warm-up a result that cannot be compared: "
            f"of two {error} it cannot be told whether they are equal"
        )
        hint = "give numbers, arrays, or what says by `==` whether it is equal; or compare none, `invariant=False`"
        raise NotInvariant(msg, hint=hint) from error.__cause__


def _compare(name: str, number: int, size: int, distance: float, tolerance: float) -> None:
    if distance <= tolerance:
        return
    how = f"they are {distance:.2g} apart" if math.isfinite(distance) else "they are not alike at all"
    msg = f"`{name}` gives item {number} of its warm-up another result in a batch of {size} than alone: {how}"
    raise NotInvariant(
        msg,
        hint="compute each item by itself, `max_batch=1`; or mend the model: padding without a mask, or "
        f"quantization by the batch, lets items meet; or accept it, `invariant={_above(distance)}`",
    )


def _above(distance: float) -> str:
    return f"{distance * 2:.1g}" if math.isfinite(distance) else "False"


def apart(one: Any, other: Any) -> float:  # noqa: ANN401 (any results)
    """
    Tell how far two results are apart, as a part of the largest number in them; what is no number must be equal.

    Raises:
        Incomparable: It cannot be told.
    """
    pairs: list[tuple[float, float]] = []
    if not _paired(one, other, pairs):
        return math.inf
    largest = max((max(abs(a), abs(b)) for a, b in pairs), default=0.0)
    distance = max((abs(a - b) for a, b in pairs), default=0.0)
    return distance / largest if largest else 0.0


def _paired(one: Any, other: Any, pairs: list[tuple[float, float]]) -> bool:  # noqa: ANN401 (any results)
    """Gather the numbers that stand in the same places; tell whether all else is equal."""
    try:
        return _alike(_listed(one), _listed(other), pairs)
    except Incomparable:
        raise
    except Exception as error:  # whatever the program's values raise, and what comes of those that hold themselves
        raise Incomparable(other if isinstance(one, PLAIN) else one) from error


def _alike(one: Any, other: Any, pairs: list[tuple[float, float]]) -> bool:  # noqa: ANN401 (any results)
    held = _held(one)
    if not held:
        return _have_same_content(one, other, pairs)
    if type(one) is not type(other):
        return bool(one == other)
    is_held = _have_same_names(held, _held(other), pairs)
    return is_held and (not isinstance(one, PLAIN) or _have_same_content(one, other, pairs))


def _have_same_content(one: Any, other: Any, pairs: list[tuple[float, float]]) -> bool:  # noqa: ANN401 (any results)
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one == other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return _are_numbers(one, other, pairs)
    if isinstance(one, dict) and isinstance(other, dict):
        return _have_same_names(one, other, pairs)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_paired(a, b, pairs) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _have_same_names(one: dict[Any, Any], other: dict[Any, Any], pairs: list[tuple[float, float]]) -> bool:
    return one.keys() == other.keys() and all(_paired(one[key], other[key], pairs) for key in one)


def _are_numbers(one: float, other: float, pairs: list[tuple[float, float]]) -> bool:
    try:
        if math.isfinite(one) and math.isfinite(other):
            pairs.append((one, other))
            return True
        return one == other or (math.isnan(one) and math.isnan(other))
    except OverflowError:  # of a whole number that is larger than any float
        return one == other


def _listed(value: Any) -> Any:  # noqa: ANN401 (any results)
    """Give arrays and tensors, of whatever library, as lists, and any other numbers as Python's own."""
    if type(value) in PLAIN and not isinstance(value, complex):  # which is most of what there is
        return value
    if not isinstance(value, PLAIN) and not isinstance(value, type) and not is_dataclass(value):
        if hasattr(type(value), "tolist"):
            value = value.tolist()
        elif hasattr(type(value), "__array__"):
            value = value.__array__().tolist()
    if isinstance(value, complex):
        return [value.real, value.imag]
    return float(value) if isinstance(value, Real | Decimal) and not isinstance(value, int | float) else value


def _held(value: Any) -> dict[str, Any]:  # noqa: ANN401 (any results)
    """Give what an object holds by name: a dataclass its fields, any other what is in its `__dict__` and its slots."""
    if type(value) in PLAIN or isinstance(value, type):
        return {}
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.compare]
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    held = {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}
    return {**getattr(value, "__dict__", {}), **held}


def _slots(kind: type) -> list[str]:
    """Name the slots of a class; not those of Python's own, such as `UUID`, which say best themselves what is equal."""
    return [
        name
        for each in kind.__mro__
        if "__slots__" in vars(each) and each.__module__.partition(".")[0] not in sys.stdlib_module_names
        for name, member in vars(each).items()
        if isinstance(member, MemberDescriptorType) and not name.startswith("__")
    ]
