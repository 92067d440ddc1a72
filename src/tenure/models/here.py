"""A model in the process that calls it: its queue, its threads, and how it is swapped."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self

from tenure.cancellation import uninterrupted
from tenure.checks import Degraded
from tenure.models.batches import Batcher
from tenure.models.errors import ModelLate
from tenure.models.handle import Item, Model, ModelStats, Result
from tenure.models.loading import exchanged, loaded, version_of
from tenure.models.native import NativeThreads
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from tenure.models.files import ModelFile
    from tenure.models.loading import Files, Loaded, Recipe


class Served(Generic[Item, Result]):
    """
    A model that was loaded, and what is exchanged when it is swapped.

    Attributes:
        batcher: What computes.
        loaded: What is called now.
        swaps: How often it was swapped.
    """

    def __init__(self, recipe: Recipe[Item, Result], threads: NativeThreads, first: Loaded[Item, Result]) -> None:
        self.recipe = recipe
        self.loaded = first
        self.swaps = 0
        self.batcher = Batcher(recipe.name, first.function, recipe.batching)
        self._threads = threads
        self._swapping = asyncio.Lock()

    @property
    def stats(self) -> ModelStats:
        """How it is doing."""
        batcher = self.batcher
        return ModelStats(
            version=self.loaded.version,
            waiting=batcher.waiting,
            running=batcher.running,
            **asdict(batcher.counts),
            load_seconds=self.loaded.seconds,
            swaps=self.swaps,
            max_batch=batcher.batching.max_batch,
            max_queue=batcher.batching.max_queue,
        )

    async def swap(self, given: Any, until: float = math.inf) -> str:  # noqa: ANN401 (what a program gives)
        """
        Load other files, switch to them, and wait until nothing is computed by those before.

        Raises:
            ModelLate: They were not loaded at a time of the event loop; nothing has changed.
        """
        self.batcher.refuse_elsewhere()
        async with self._swapping:
            files = exchanged(self.recipe.name, self.loaded.files, given)
            if version_of(self.recipe.name, files) == self.loaded.version:
                return self.loaded.version
            self._refuse_late(until)
            new = await in_own_thread(partial(loaded, self.recipe, files, self._threads))
            self.batcher.refuse_elsewhere()
            self._refuse_late(until)
            await self.switch(new)
        return new.version

    async def switch(self, other: Loaded[Item, Result]) -> None:
        """Switch to what was loaded, and wait until nothing is computed by what was before."""
        self.loaded = other
        self.swaps += 1
        await self.batcher.switch(other.function)

    def _refuse_late(self, until: float) -> None:
        if asyncio.get_running_loop().time() > until:
            msg = f"`{self.recipe.name}` could not be swapped in time: {self.loaded.version} is still called"
            raise ModelLate(msg, hint="let it take longer: `start_timeout=…`")


class ModelHere(Model[Item, Result]):
    """A model in this process."""

    def __init__(self, served: Served[Item, Result]) -> None:
        self.served = served
        self.name = served.recipe.name
        self.seconds = served.recipe.batching.timeout

    @classmethod
    @asynccontextmanager
    async def opened(cls, recipe: Recipe[Item, Result], files: Files) -> AsyncGenerator[Self]:
        """Load a model for a block; what waits at its end is still computed, as long as there is time."""
        threads = NativeThreads(recipe.name, recipe.native_threads, recipe.batching.workers)
        try:
            # Without a name of its own here, what is loaded first is let go of once it was swapped.
            served = Served(recipe, threads, await in_own_thread(partial(loaded, recipe, files, threads)))
            threads.warn()
            try:
                yield cls(served)
            finally:
                await uninterrupted(served.batcher.close(recipe.patience))
        finally:
            await in_own_thread(threads.put_back)

    async def __call__(self, item: Item, /) -> Result:
        """Give the result of one item."""
        return await self.served.batcher.one(item, self.seconds)

    async def many(self, items: Iterable[Item], /) -> list[Result]:
        """Give the results of several items."""
        return await self.served.batcher.many(list(items), self.seconds)

    @property
    def version(self) -> str:
        """Which model is called."""
        return self.served.loaded.version

    @property
    def stats(self) -> ModelStats:
        """How it is doing."""
        return self.served.stats

    @property
    def share(self) -> ModelStats:
        """What this worker tells of it."""
        return self.served.stats

    async def swap(self, file: ModelFile | Mapping[str, ModelFile], /) -> str:
        """Call another model from now on."""
        return await self.served.swap(file)

    def refuse_if_full(self) -> None:
        """Refuse an item that there would be no room for."""
        self.served.batcher.refuse_full()

    async def check(self) -> Degraded | None:
        """Tell whether it can be called."""
        batcher = self.served.batcher
        batcher.refuse_elsewhere()
        return Degraded(f"{batcher.waiting} items wait, as many as may") if batcher.is_full else None
