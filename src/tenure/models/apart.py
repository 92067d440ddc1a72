"""A model in a process of its own, one for all workers of a machine: how it is served there, and called from here."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from tenure.cancellation import uninterrupted
from tenure.checks import Degraded
from tenure.errors import TenureError
from tenure.models.batches import busy
from tenure.models.batching import Counts
from tenure.models.choice import from_data, to_data
from tenure.models.errors import ModelLate
from tenure.models.handle import Item, Model, ModelStats, Result
from tenure.models.here import ModelHere
from tenure.models.loading import exchanged, version_of
from tenure.models.types import types_of
from tenure.remote.errors import CallTimeout, OwnerDied
from tenure.remote.hosted import hosted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

    from tenure.models.choice import Choice
    from tenure.models.files import ModelFile
    from tenure.models.loading import Files, Recipe
    from tenure.remote.calling import Calling

logger = logging.getLogger("tenure")

HEARTBEAT = 0.5
"""Seconds between two words on how a model is doing, while nothing happens that workers must know at once."""
PAUSE = 0.01
"""Seconds between two words where much happens."""
SILENCE = 3.0
"""Seconds without a word after which a model's process counts as away."""
AGAIN = 0.1
"""Seconds after which a worker listens anew, when the process has gone."""
COUNTS = (*(count.name for count in fields(Counts) if count.name not in {"largest", "batch_seconds"}), "swaps")
"""What of a model's statistics only grows."""


@hosted(max_waiting=2**31)  # how many may wait is for the model's own queue to say
class ModelService:
    """A model in its own process, as workers call it."""

    def __init__(self, here: ModelHere[Any, Any], declared: str, choice: Choice, refused: str) -> None:
        self._model = here
        self._served = here.served
        self._declared = declared
        self._choice = choice
        self._refused = refused
        self._choosing = asyncio.Lock()
        self._types = types_of(here.served.recipe.load)
        self._listeners: dict[asyncio.Event, None] = {}  # the first of them speaks for all
        self._is_ending = False
        self._served.batcher.on_full = self._tell

    @classmethod
    @asynccontextmanager
    async def opened(cls, recipe: Recipe[Any, Any], files: Files, choice: Choice) -> AsyncGenerator[Self]:
        """Load a model for a block: what it was swapped for, if it was; else what is declared."""
        declared = version_of(recipe.name, files)
        chosen, refused = await choice.read(declared), ""
        async with AsyncExitStack() as stack:
            try:
                here = await stack.enter_async_context(ModelHere.opened(recipe, chosen or files))
            except TenureError:
                if chosen is None:
                    raise
                logger.exception(
                    "`%s` cannot be made of what it was swapped for: it is what is declared",
                    recipe.name,
                    extra={"tenure_event": "model-swap-failed", "tenure_resource": recipe.name},
                )
                refused = version_of(recipe.name, chosen)
                here = await stack.enter_async_context(ModelHere.opened(recipe, files))
            service = cls(here, declared, choice, refused)
            async with choice.followed(declared, service.follow):
                yield service

    async def one(self, item: Any) -> Any:  # noqa: ANN401 (any value)
        """Give the result of one item; the caller has the clock."""
        return await self._served.batcher.one(self._types.item.made(item), None)

    async def many(self, items: list[Any], seconds: float) -> list[Any]:
        """Give the results of several."""
        return await self._served.batcher.many([self._types.item.made(item) for item in items], seconds)

    async def swap(self, data: Any, seconds: float) -> str:  # noqa: ANN401 (files, as data)
        """Swap the model within so many seconds, and remember what for; both or neither, though the caller leaves."""
        until = asyncio.get_running_loop().time() + seconds
        return await uninterrupted(self._swap(from_data(data), until))

    async def _swap(self, files: Any, until: float) -> str:  # noqa: ANN401 (files, or what is refused)
        async with self._choosing:
            before = self._served.loaded
            version = await self._served.swap(files, until)
            try:
                await self._choice.keep(self._declared, self._served.loaded.files)
            except Exception:
                await self._served.switch(before)  # not loaded anew: its file may be another by now
                raise
            self._refused = ""
        self._tell()
        return version

    async def follow(self) -> None:
        """Swap the model for what another machine has chosen; where that fails, the one before stays."""
        async with self._choosing:
            files = await self._choice.read(self._declared)
            if files is None:  # nothing was chosen, or it is no longer known there
                if self._model.version != self._declared:
                    await self._choice.keep(self._declared, self._served.loaded.files)
                return
            chosen = version_of(self._model.name, files)
            if chosen == self._refused:
                return
            try:
                await self._served.swap(files)
                self._refused = ""
            except TenureError:
                logger.exception(
                    "`%s` cannot be swapped for `%s`, as it was elsewhere",
                    self._model.version,
                    chosen,
                    extra={"tenure_event": "model-swap-failed", "tenure_resource": self._model.name},
                )
                self._refused = chosen
        self._tell()

    async def word(self) -> dict[str, Any]:
        """Tell how it is doing."""
        return self._word()

    async def count(self, refused: int, late: int) -> dict[str, Any]:
        """Count what a worker has told its callers by itself, and tell how the model is doing."""
        counts = self._served.batcher.counts
        counts.refused += refused
        counts.late += late
        return self._word()

    async def words(self) -> AsyncIterator[dict[str, Any]]:
        """Tell how it is doing, again and again: at once where the queue becomes full or empties, or it was swapped."""
        news = asyncio.Event()
        self._listeners[news] = None
        try:
            while not self._is_ending:
                news.clear()
                yield {**self._word(), "speaks": next(iter(self._listeners)) is news}
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        await news.wait()
                await asyncio.sleep(PAUSE)
        finally:
            del self._listeners[news]

    def end(self) -> None:
        """Let nobody listen any longer, as the process is about to end."""
        self._is_ending = True
        self._tell()

    def _word(self) -> dict[str, Any]:
        batcher = self._served.batcher
        return {
            "process": os.getpid(),
            "stats": asdict(self._model.stats),
            "refused": self._refused,
            "is_full": batcher.is_full,
            "retry_after": batcher.retry_after(),
        }

    def _tell(self) -> None:
        for news in self._listeners:
            news.set()


@dataclass(eq=False)
class Known:
    """
    What a worker knows of a model in another process.

    Attributes:
        stats: How it is doing.
        refused_version: Which version it was swapped for, where it could not be.
        is_full: Whether no further item may wait.
        retry_after: Seconds after which a client is told to come back.
        is_away: Whether nothing is heard of the process.
        heard: When something was, by `monotonic`.
        refused: Items that were refused here, which the process has not counted yet.
        late: Items for which nobody waits here any longer, likewise.
        process: Which process was heard.
        speaks: Whether this worker is the one that tells of the model.
        share: What has been counted since it is, in the latest statistics.
    """

    stats: ModelStats = field(default_factory=lambda: ModelStats(""))
    refused_version: str = ""
    is_full: bool = False
    retry_after: int = 1
    is_away: bool = False
    heard: float = 0.0
    refused: int = 0
    late: int = 0
    process: int = 0
    speaks: bool = False
    share: ModelStats = field(default_factory=lambda: ModelStats(""))

    @property
    def silence(self) -> float:
        """Seconds since the process was heard."""
        return monotonic() - self.heard

    @property
    def is_silent(self) -> bool:
        """Whether nothing is heard of the process, or nothing for too long."""
        return self.is_away or self.silence > SILENCE

    def hear(self, word: dict[str, Any]) -> None:
        """Take note of a word from the process."""
        stats = ModelStats(**word["stats"])
        self.speaks = word.get("speaks", self.speaks)
        if self.speaks:
            before = self.stats if word["process"] == self.process else ModelStats("")  # another has begun at 0
            share, new, old = (asdict(each) for each in (self.share, stats, before))
            self.share = replace(stats, **{name: share[name] + new[name] - old[name] for name in COUNTS})
        self.stats, self.process = stats, word["process"]
        self.refused_version = word["refused"]
        self.is_full = word["is_full"]
        self.retry_after = word["retry_after"]
        self.is_away = False
        self.heard = monotonic()


class ModelApart(Model[Item, Result]):
    """A model in another process of this machine."""

    def __init__(self, recipe: Recipe[Item, Result], client: Calling[Any], swap_timeout: float) -> None:
        self.name = recipe.name
        self.seconds = recipe.batching.timeout
        self._client = client
        self._recipe = recipe
        self._swap_timeout = swap_timeout
        self._results = types_of(recipe.load).result
        self._known = Known()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[Self]:
        """Keep up with how the model is doing, for a block."""
        self._known.hear(await self._client.call(["word", [], {}], seconds=SILENCE, again=True))
        task = asyncio.create_task(self._listen(), name=f"tenure: listens to {self.name}")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(self._client.stream(["words", [], {}], seconds=SILENCE)) as words:
                    async for word in words:
                        self._known.hear(word)
                        await self._count()
            except Exception as error:  # noqa: BLE001 (whatever it is, it is listened to again)
                logger.debug(
                    "the process of `%s` is not heard: %r",
                    self.name,
                    error,
                    extra={"tenure_event": "model-unheard", "tenure_resource": self.name},
                )
            self._known.is_away, self._known.is_full = True, False
            await asyncio.sleep(AGAIN)

    async def _count(self) -> None:
        """Let the process count what was refused or late here, for which it was not asked."""
        known = self._known
        refused, late = known.refused, known.late
        if refused or late:
            known.hear(await self._client.call(["count", [refused, late], {}], seconds=SILENCE, again=False))
            known.refused -= refused
            known.late -= late

    async def __call__(self, item: Item, /) -> Result:
        """Give the result of one item."""
        result: Result = self._results.made(await self._call("one", [item], self.seconds, 1))
        return result

    async def many(self, items: Iterable[Item], /) -> list[Result]:
        """Give the results of several items."""
        given, portion = list(items), self._recipe.batching.portion
        seconds = self.seconds * max(1, math.ceil(len(given) / portion))
        results = await self._call("many", [given, self.seconds], seconds, min(len(given), portion))
        return [self._results.made(result) for result in results]

    async def _call(self, method: str, arguments: list[Any], seconds: float, items: int) -> Any:  # noqa: ANN401 (any value)
        try:
            return await self._client.call([method, arguments, {}], seconds=seconds, again=self._recipe.idempotent)
        except CallTimeout:
            self._known.late += items
            msg = f"`{self.name}` gave no result within {seconds:g} s"
            raise ModelLate(msg, hint="let fewer wait, `max_queue=…`, or each for longer, `timeout=…`") from None

    @property
    def version(self) -> str:
        """Which model is called."""
        return self._known.stats.version

    @property
    def stats(self) -> ModelStats:
        """How it is doing."""
        known = self._known
        told = known.stats
        return replace(
            told,
            refused=told.refused + known.refused,
            late=told.late + known.late,
            age=known.silence,
            is_away=known.is_silent,
        )

    @property
    def share(self) -> ModelStats | None:
        """What this worker tells of it."""
        known = self._known
        return replace(known.share, age=known.silence, is_away=known.is_silent) if known.speaks else None

    async def swap(self, file: ModelFile | Mapping[str, ModelFile], /) -> str:
        """Call another model from now on."""
        exchanged(self.name, file, file)  # refused here, where it is no file at all
        # That process does not swap it past that time; past the switch it waits for what is computed, as callers do.
        order = ["swap", [to_data(file), self._swap_timeout], {}]
        version = await self._client.call(order, seconds=self._swap_timeout + self.seconds, again=False)
        self._known.stats, self._known.refused_version = replace(self._known.stats, version=version), ""
        return str(version)

    def refuse_if_full(self) -> None:
        """Refuse an item that there would be no room for."""
        known = self._known
        if known.is_full:
            known.refused += 1
            raise busy(self.name, known.stats.waiting, known.retry_after)

    async def check(self) -> Degraded | None:
        """Tell whether it can be called."""
        known = self._known
        if known.is_silent:
            msg = f"the process of `{self.name}` has not been heard of for {known.silence:.1f} s"
            raise OwnerDied(msg, hint="its log is `service.log`, beside its socket")
        if known.refused_version:
            called = known.stats.version
            return Degraded(f"{called} is called, as {known.refused_version} could not be loaded on this machine")
        return Degraded(f"{known.stats.waiting} items wait, as many as may") if known.is_full else None
