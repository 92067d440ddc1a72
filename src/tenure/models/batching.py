"""How items are gathered into batches, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from tenure.errors import DeclarationError
from tenure.models.errors import ModelFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batching:
    """
    How items are gathered.

    Attributes:
        workers: How many batches are computed at once, each in a thread.
        max_batch: How many items one batch may have.
        max_wait: Seconds that the oldest item waits for company while a thread is free. With 0 none waits: what comes
            while all threads are busy goes together.
        max_queue: How many items may wait; more are refused.
        timeout: Seconds within which an item has its result, from when it is given.
        cost: Gives the cost of an item, such as its number of tokens.
        max_cost: What the items of one batch may cost together; one that costs more goes alone.

    Raises:
        DeclarationError: A number is too small, or there is one of `cost` and `max_cost` alone.
    """

    workers: int = 1
    max_batch: int = 1
    max_wait: float = 0.0
    max_queue: int = 64
    timeout: float = 30.0
    cost: Callable[[Any], int] | None = None
    max_cost: int | None = None

    def __post_init__(self) -> None:
        if min(self.workers, self.max_batch, self.max_queue) < 1:
            msg = f"workers={self.workers}, max_batch={self.max_batch} and max_queue={self.max_queue} must be above 0"
            raise DeclarationError(msg, hint="to compute each item by itself, write `max_batch=1`")
        if not (self.max_wait >= 0 and self.timeout > 0):
            msg = f"max_wait={self.max_wait} and timeout={self.timeout} must be seconds, the latter above 0"
            raise DeclarationError(msg)
        if (self.cost is None) != (self.max_cost is None) or (self.max_cost is not None and self.max_cost < 1):
            msg = f"cost={self.cost} and max_cost={self.max_cost} do not bound what a batch costs"
            raise DeclarationError(msg, hint="give both: what an item costs, and what a batch may")

    @property
    def portion(self) -> int:
        """How many of many items of one caller are let in at a time: what all threads can take."""
        return min(self.max_batch * self.workers, self.max_queue)

    def cost_of(self, item: Any) -> float:  # noqa: ANN401 (any item)
        """
        Tell what an item costs.

        Raises:
            ModelFailed: That is no number, or below 0; in a queue it would keep all that is behind it.
            Exception: What `cost` raises.
        """
        if self.cost is None:
            return 1.0
        cost: Any = self.cost(item)
        if not (isinstance(cost, Real) and float(cost) >= 0):
            msg = f"`cost` gave {cost!r} for an item"
            raise ModelFailed(msg, hint="let it give a number that is not below 0 for each item")
        return float(cost)

    def cut(self, items: Sequence[T]) -> int:
        """Tell how many of the first of these items make a batch."""
        most = min(len(items), self.max_batch)
        if self.cost is None or self.max_cost is None:
            return most
        total = 0.0
        for count in range(most):
            total += self.cost_of(items[count])
            if count and total > self.max_cost:
                return count
        return most


@dataclass(slots=True)
class Counts:
    """
    What a batcher has done.

    Attributes:
        served: Items that have a result.
        failed: Items for which the function, or its result, was an error.
        refused: Items that were not let in, as the queue was full.
        dropped: Items whose caller left, or could wait no longer, before they were computed.
        late: Items whose caller could wait no longer, computed or not.
        batches: How many batches were computed.
        items: How many items were in them.
        largest: How many were in the largest.
        wait_seconds: Seconds that items have waited to be computed, all together.
        busy_seconds: Seconds that batches took, all together.
        batch_seconds: Seconds that a batch takes, a moving average.
    """

    served: int = 0
    failed: int = 0
    refused: int = 0
    dropped: int = 0
    late: int = 0
    batches: int = 0
    items: int = 0
    largest: int = 0
    wait_seconds: float = 0.0
    busy_seconds: float = 0.0
    batch_seconds: float = 0.0
