"""`Model`: what is injected, wherever the model itself lives."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tenure.checks import Check
from tenure.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tenure.checks import Degraded
    from tenure.models.files import ModelFile

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ModelStats:
    """
    How a model is doing. Says nothing of what it was asked.

    Attributes:
        version: Which one is called.
        waiting: Items that wait.
        running: Batches that are computed now.
        served: Items that have a result, since it was started.
        failed: Items for which the model, or its result, was an error.
        refused: Items that were not let in, as the queue was full.
        dropped: Items whose caller left, or could wait no longer, before they were computed.
        late: Items whose caller could wait no longer, computed or not.
        batches: How many batches were computed.
        items: How many items were in them.
        largest: How many were in the largest.
        wait_seconds: How long items have waited to be computed, all together.
        busy_seconds: How long batches took, all together.
        batch_seconds: How long one takes at present, a moving average.
        load_seconds: How long it took to load, warm up and check what is called.
        swaps: How often it was swapped.
        max_batch: How many items one batch may have.
        max_queue: How many items may wait.
        age: Seconds since this was so; 0 at `app` scope.
        is_away: Whether nothing is heard of its process at present, so that this is the last that was.
    """

    version: str
    waiting: int = 0
    running: int = 0
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
    load_seconds: float = 0.0
    swaps: int = 0
    max_batch: int = 1
    max_queue: int = 1
    age: float = 0.0
    is_away: bool = False


class Model(ABC, Generic[Item, Result]):
    """
    A model that was loaded once, for all requests of this process or of this machine: ``await model(item)``.

    Belongs to one app, process and event loop. A double in a test needs only ``async def __call__``.
    """

    name: str
    seconds: float

    @abstractmethod
    async def __call__(self, item: Item, /) -> Result:
        """
        Give the result of one item.

        Whoever is cancelled, as its client has left, leaves the queue; what is being computed is computed to its end.

        Raises:
            ModelBusy: As many items wait as may; FastAPI answers it 503, with ``Retry-After``.
            ModelLate: It was not there in time; FastAPI answers it 504.
            ModelClosed: The app closes it; FastAPI answers it 503.
            ModelFailed: The model gave no proper result.
            OwnerDied: At `host` scope, its process has ended, and it may be given again; FastAPI answers it 503.
            Exception: What the model itself has raised for this item.
        """

    @abstractmethod
    async def many(self, items: Iterable[Item], /) -> list[Result]:
        """
        Give the results of several items, in their order.

        They wait for their turn in portions of what the model's threads take at once, so that others do not wait for
        all of them; each portion has to be there in time. The first error ends it, and is raised.
        """

    @property
    @abstractmethod
    def version(self) -> str:
        """
        Which model is called: its name, and the first 12 digits of its checksum.

        At `host` scope as far as is known here: right when a swap from here has returned, else some milliseconds later.
        """

    @property
    @abstractmethod
    def stats(self) -> ModelStats:
        """
        How it is doing; at `host` scope for all workers, as it was within the last second.

        It asks nobody, and may be read from any thread.
        """

    @property
    @abstractmethod
    def share(self) -> ModelStats | None:
        """
        What this worker tells of it where each worker tells something, and all of that is added up.

        At `app` scope that is `stats`. At `host` scope one worker speaks for all: its counts are those since it does,
        and the others have nothing to tell. When it has gone, another goes on. May be read from any thread.
        """

    @abstractmethod
    async def swap(self, file: ModelFile | Mapping[str, ModelFile], /) -> str:
        """
        Call another model from now on, and give its version.

        It is read, loaded, warmed up and checked while the one before is called, which is not called any more once this
        returns. No call fails by it. If it fails, the one before stays. One swap at a time: another waits. Of several
        files, those that are not named stay. Nothing is done if it is that version already.

        At `host` scope, it is swapped for all workers, and stays so until the last has left. At `cluster` scope, the
        other machines are told which, and swap it by themselves, within seconds; where one cannot load it, its health
        check says so. If they cannot be told, the one before is called again, and the error of the state is raised.

        Raises:
            DeclarationError: These are no files as those that it was declared with.
            ModelRefused: A file is not what it is said to be.
            ModelLoadFailed: It could not be loaded.
            WarmupFailed: It has failed at its warm-up.
            NotInvariant: An item has another result in a batch than alone.
            ModelLate: At `host` scope, it was not loaded within `start_timeout`; the one before stays then too.
            CallTimeout: At `host` scope, its process does not answer: `version` will say whether it was swapped.
            ModelClosed: The app closes the model.
        """

    @abstractmethod
    def refuse_if_full(self) -> None:
        """
        Refuse an item that there would be no room for, before anything is done for it.

        At `host` scope as far as is known here, some milliseconds late.

        Raises:
            ModelBusy: As many wait as may.
        """

    @abstractmethod
    async def check(self) -> Degraded | None:
        """Tell whether it can be called, for a health check; an error, if not."""

    def within(self, seconds: float) -> Self:
        """
        Give the same model, with other seconds that a call may take.

        Raises:
            DeclarationError: They are not above 0.
        """
        if not seconds > 0:
            msg = f"`{self.name}` is to give results within {seconds} seconds"
            raise DeclarationError(msg, hint="give it a time above 0")
        other = copy.copy(self)
        other.seconds = seconds
        return other


def check_of(name: str) -> Check:
    """Give the health check that a model of this name comes with."""
    return Check(name, _check, timeout=2, is_built_in=True)


async def _check(model: Model[Any, Any]) -> Degraded | None:
    return await model.check()
