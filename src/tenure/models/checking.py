"""Warming a model up, and holding it to giving an item the same result in a batch as alone."""

from __future__ import annotations

import math
import sys
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
        NotInvariant: One has another result in a batch than alone.
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
                _compare(name, number, count, apart(alone[number], result), tolerance)


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
    """Tell how far two results are apart, as a part of the largest number in them; what is no number must be equal."""
    pairs: list[tuple[float, float]] = []
    if not _paired(one, other, pairs):
        return math.inf
    largest = max((max(abs(a), abs(b)) for a, b in pairs), default=0.0)
    distance = max((abs(a - b) for a, b in pairs), default=0.0)
    return distance / largest if largest else 0.0


def _paired(one: Any, other: Any, pairs: list[tuple[float, float]]) -> bool:  # noqa: ANN401 (any results)
    """Gather the numbers that stand in the same places; tell whether all else is equal."""
    one, other = _plain(one), _plain(other)
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one == other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        if math.isfinite(one) and math.isfinite(other):
            pairs.append((one, other))
            return True
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_paired(one[key], other[key], pairs) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_paired(a, b, pairs) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _plain(value: Any) -> Any:  # noqa: ANN401 (any results)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return value.tolist()
    fields = getattr(value, "__dict__", None)
    return value if not fields or isinstance(value, type) else dict(fields)
