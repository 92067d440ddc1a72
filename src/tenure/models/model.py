"""
A model that is a resource: loaded once, checked before anyone calls it, called in batches, swapped without a loss.

::

    embedder = model(load=load_minilm, file=ModelFile("minilm.onnx", sha256="b38e…", format="onnx"), warmup=["hello"])
    Embedder = Annotated[Model[str, Vector], Depends(embedder)]     # await embedder("a text")
"""

from __future__ import annotations

import inspect
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, Unpack, cast, overload

from fastapi import Depends

from tenure.calls import caller
from tenure.errors import DeclarationError
from tenure.models.batching import Batching
from tenure.models.checking import TOLERANCE
from tenure.models.handle import Model, check_of
from tenure.models.here import ModelHere
from tenure.models.loading import Recipe, checked
from tenure.models.native import environment
from tenure.remote.hosted import AT_TOP, MAIN, Apart
from tenure.resources import Resource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tenure.models.choice import Choice
    from tenure.models.computing import Function
    from tenure.models.files import ModelFile
    from tenure.models.loading import Files
    from tenure.remote.calling import Calling

T = TypeVar("T")
R = TypeVar("R")

Where: TypeAlias = Literal["app", "host", "cluster"]
"""Whether each process loads a model, one for all processes of a machine, or such on machines that agree which."""


class Words(TypedDict, Generic[T], total=False):
    """What may be said of a model; `model` says what each means."""

    warmup: Sequence[T]
    invariant: bool | float
    scope: Where
    workers: int
    native_threads: int | None
    max_batch: int
    max_wait: float
    max_queue: int
    cost: Callable[[T], int] | None
    max_cost: int | None
    timeout: float
    idempotent: bool
    name: str
    start_timeout: float
    close_timeout: float


class ModelResource(Resource[Model[T, R]], Generic[T, R]):
    """
    A model: what `Depends` takes for the `Model` that is called.

    Attributes:
        room: A dependency that refuses a request while the queue is full, with 503 and ``Retry-After``. In
            ``dependencies=[Depends(embedder.room)]`` of a route it comes before the body is validated, and before all
            other dependencies.
        apart: How it lives in a process of its own; nothing at `app` scope.
    """

    room: Callable[..., Awaitable[None]]

    def __init__(  # noqa: PLR0913 (each is a word of the declaration)
        self,
        recipe: Recipe[T, R],
        file: Any,  # noqa: ANN401 (files, or what gives them)
        *,
        scope: Where,
        start_timeout: float,
        location: str,
        module: str,
    ) -> None:
        if scope not in {"app", "host", "cluster"}:
            msg = f"the model `{recipe.name}` cannot have the scope {scope!r}"
            hint = 'load it once for each process, `scope="app"`, or once for all of a machine, `scope="host"`'
            raise DeclarationError(msg, path=[f"declared at {location}"], hint=hint)
        source = file if callable(file) else checked(recipe.name, file)

        async def room(model: Model[T, R] = Depends(self)) -> None:  # noqa: B008 (FastAPI's way)
            if isinstance(model, Model):  # and not a test's double
                model.refuse_if_full()

        super().__init__(
            _opened(recipe.name, source, partial(ModelHere.opened, recipe)),
            scope=scope,
            name=recipe.name,
            start_timeout=start_timeout,
            close_timeout=recipe.close_timeout,
            location=location,
        )
        self.room = room
        self.add_check(check_of(recipe.name))
        self.apart = _ApartModel(self, recipe, source, module) if scope != "app" else None

    def lacks(self, state: str | None) -> str:
        """Say what machines need to agree on a model."""
        if self.scope != "cluster" or state:
            return ""
        return 'say where machines agree on it, `lifespan(state="valkey://host:6379")`, or set TENURE_STATE'


class _ApartModel(Apart):
    """A model in a process of its own."""

    def __init__(self, resource: ModelResource[Any, Any], recipe: Recipe[Any, Any], source: Any, module: str) -> None:  # noqa: ANN401
        super().__init__(resource)
        self._recipe = recipe
        self._source = source
        self._module = module

    def place(self) -> tuple[str, str]:
        if self._module == "__main__":
            raise self.refusal(MAIN, AT_TOP, what="declaration")
        found = vars(sys.modules[self._module]).items()
        name = next((name for name, value in found if value is self.resource), None)
        if name is None:
            problem = f"is no name of the module `{self._module}`, by which another process could find it"
            raise self.refusal(problem, f"give it a name at the top of {self._module}", what="declaration")
        return self._module, name

    def owned(self, home: Path | None = None) -> Resource[Any]:
        resource, recipe, source = self.resource, self._recipe, self._source
        choosing = _agreeing(recipe.name) if resource.scope == "cluster" else _remembering(home)

        async def served(
            files: Any = Depends(source if callable(source) else lambda: source),  # noqa: ANN401, B008 (FastAPI's way)
            choice: Any = Depends(choosing),  # noqa: ANN401, B008 (likewise)
        ) -> AsyncIterator[Any]:
            from tenure.models.apart import ModelService  # noqa: PLC0415 (what needs msgpack)

            async with ModelService.opened(recipe, checked(recipe.name, files), choice) as service:
                yield service

        return resource.made_by(served, scope="app", name=resource.name, location=resource.location)

    @asynccontextmanager
    async def handle(self, client: Calling[Any]) -> AsyncGenerator[Model[Any, Any]]:
        from tenure.models.apart import ModelApart  # noqa: PLC0415 (likewise)

        async with ModelApart(self._recipe, client, self.resource.start_timeout).listening() as model:
            yield model

    def environment(self) -> dict[str, str]:
        return environment(self._recipe.native_threads)

    def ends(self, served: Any) -> None:  # noqa: ANN401 (a `ModelService`)
        served.end()


def _remembering(home: Path | None) -> Callable[..., Any]:
    """Give what gives the memory of this machine, in the folder of a model's process."""

    async def remembering() -> Choice:
        from tenure.models.choice import MachinesChoice  # noqa: PLC0415 (what few need)

        return MachinesChoice(cast("Path", home))

    return remembering


def _agreeing(name: str) -> Callable[..., Any]:
    """Give what gives the agreement of all machines."""
    from tenure.state.cache import Cache  # noqa: PLC0415 (what few need)
    from tenure.state.topic import Topic  # noqa: PLC0415 (likewise)

    chosen: Cache[Any] = Cache(f"{name}.chosen", scope="cluster")
    news = Topic(f"{name}.news", scope="cluster", type=str)

    async def agreeing(
        chosen: Any = Depends(chosen),  # noqa: ANN401, B008 (FastAPI's way)
        news: Any = Depends(news),  # noqa: ANN401, B008 (likewise)
    ) -> Choice:
        from tenure.models.choice import DeploymentsChoice  # noqa: PLC0415 (likewise)

        return DeploymentsChoice(chosen, news)

    return agreeing


def _opened(
    name: str,
    source: Any,  # noqa: ANN401 (files, or what gives them)
    opening: Callable[[Files], AbstractAsyncContextManager[T]],
) -> Callable[..., AsyncIterator[T]]:
    """Give the factory of a model, which takes its files where a dependency gives them."""
    if not callable(source):

        async def opened() -> AsyncIterator[T]:
            async with opening(source) as value:
                yield value

        return opened

    async def opened_with(files: Any = Depends(source)) -> AsyncIterator[T]:  # noqa: ANN401, B008 (FastAPI's way)
        async with opening(checked(name, files)) as value:
            yield value

    return opened_with


@overload
def model(
    *, load: Callable[[], Callable[[list[T]], Iterable[R]]], file: None = None, **words: Unpack[Words[T]]
) -> ModelResource[T, R]: ...
@overload
def model(
    *,
    load: Callable[[bytes], Callable[[list[T]], Iterable[R]]],
    file: ModelFile | Callable[..., ModelFile | Awaitable[ModelFile]],
    **words: Unpack[Words[T]],
) -> ModelResource[T, R]: ...
@overload
def model(
    *,
    load: Callable[[Mapping[str, bytes]], Callable[[list[T]], Iterable[R]]],
    file: Mapping[str, ModelFile] | Callable[..., Mapping[str, ModelFile] | Awaitable[Mapping[str, ModelFile]]],
    **words: Unpack[Words[T]],
) -> ModelResource[T, R]: ...
def model(  # noqa: PLR0913 (each is a word of the declaration)
    *,
    load: Callable[..., Function[Any, Any]],
    file: Any = None,
    warmup: Sequence[Any] = (),
    invariant: bool | float = True,
    scope: Where = "app",
    workers: int = 1,
    native_threads: int | None = 1,
    max_batch: int = 1,
    max_wait: float = 0.0,
    max_queue: int = 64,
    cost: Callable[[Any], int] | None = None,
    max_cost: int | None = None,
    timeout: float = 30.0,
    idempotent: bool = False,
    name: str = "model",
    start_timeout: float = 60.0,
    close_timeout: float = 10.0,
) -> ModelResource[Any, Any]:
    """
    Declare a model, at the top of a module.

    It is ready once its files were read and compared with their checksums, it was loaded, each item of `warmup` was
    computed, alone and in batches of each size up to `max_batch`, and these results agreed. Whatever fails stops the
    start. All of that, and all that it computes, is done in threads, not in the event loop.

    Args:
        load: Gives the function that computes: a list of items in, a result for each out, in their order; an exception
            as a result fails its item. It is called with the content of `file`, or with contents by name, or with
            nothing where there is none; a class whose objects can be called will do.
        file: What the model is loaded from: a `ModelFile`; several by name; or a dependency that gives either.
        warmup: Items that the model must be able to compute, such as a short one and the longest.
        invariant: How far a result in a batch may be from that of the item alone, as a part of the largest number in
            it; True stands for 0.001. False compares none.
        scope: "app": each process loads it. "host": it lives in a process of its own, which computes for all workers
            of a machine in the same batches; items and results cross as data, as those of `Remote` do. "cluster": so
            on each machine, and they agree which: a swap on one is followed by all, each of which loads the file that
            lies at the same path.
        workers: How many batches are computed at once, each in a thread of its own.
        native_threads: How many threads the libraries beneath may use for one batch; None leaves that to them.
        max_batch: How many items are computed at once.
        max_wait: Seconds that an item waits for others while a thread is free. With 0 none waits: what comes while all
            threads are busy is computed together.
        max_queue: How many items may wait; more are refused, with `ModelBusy`.
        cost: Gives what an item costs, such as its number of tokens; called in the event loop.
        max_cost: What the items of one batch may cost together.
        timeout: Seconds within which an item has its result, else `ModelLate` is raised.
        idempotent: At `host` scope, whether an item is given once more when the process dies under it.
        name: What logs, errors and the version call it, unique within an app.
        start_timeout: Seconds that the start, or a swap at `host` scope, may take.
        close_timeout: Seconds that the close may take; what waits is computed in most of them.

    Raises:
        DeclarationError: The scope is another, a number is too small, or there are no files where some should be.
    """
    location, module = caller(), sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 (as `caller` does)
    if inspect.iscoroutinefunction(load):
        msg = f"`load` of the model `{name}` is async, and is called in a thread"
        raise DeclarationError(msg, path=[f"declared at {location}"], hint="write `def` instead of `async def`")
    if native_threads is not None and native_threads < 1:
        msg = f"the model `{name}` cannot compute with native_threads={native_threads}"
        raise DeclarationError(
            msg, path=[f"declared at {location}"], hint="write 1, or None to leave that to libraries"
        )
    tolerance = (TOLERANCE if invariant else None) if isinstance(invariant, bool) else invariant
    recipe = Recipe(
        name=name,
        load=load,
        warmup=warmup,
        tolerance=tolerance,
        native_threads=native_threads,
        batching=Batching(workers, max_batch, max_wait, max_queue, timeout, cost, max_cost),
        idempotent=idempotent,
        close_timeout=close_timeout,
    )
    return ModelResource(recipe, file, scope=scope, start_timeout=start_timeout, location=location, module=module)
