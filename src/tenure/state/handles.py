"""What the handles over an engine have in common, and the engine of each scope: one for all its handles."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from fastapi import Depends

from tenure.calls import place
from tenure.errors import AlreadyClosed, DeclarationError, MissingExtra, NotStarted
from tenure.resources import Resource
from tenure.state.deployments import current_deployment, current_state, lacking
from tenure.state.engines import EngineResource
from tenure.state.stores import NAME_BYTES
from tenure.state.stores.memory_engine import MemoryEngine
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from contextlib import AbstractAsyncContextManager
    from types import FrameType

    from tenure.scopes import ScopeName
    from tenure.state.engines import Engine

T_co = TypeVar("T_co", covariant=True)

IN_ONE_PROCESS = 'share it within one process: `scope="app"`'


async def _memory() -> AsyncIterator[Engine]:
    """Keep the state of one app in the memory of its process."""
    engine = MemoryEngine()
    yield engine
    engine.close()


async def _embedded() -> AsyncIterator[Engine]:
    """Keep the state that the workers of this machine share, in a Valkey that they run."""
    # What an app without shared state need not load, nor have installed.
    from tenure.host.valkey import EmbeddedValkey  # noqa: PLC0415
    from tenure.state.stores import places  # noqa: PLC0415

    deployment = current_deployment()
    folder = await in_worker(partial(places.settled, deployment, "valkey"))
    async with EmbeddedValkey(folder) as server, _valkey(server.url(), deployment) as engine:
        yield engine


async def _by_url() -> AsyncIterator[Engine]:
    """Keep the state that machines share, where the app's settings say."""
    url = current_state() or ""
    engine_of = _postgres if url.startswith("postgres") else _valkey
    async with engine_of(url, current_deployment()) as engine:
        yield engine


def _valkey(url: str, deployment: str) -> AbstractAsyncContextManager[Engine]:
    with _installed("pip install 'tenure[state]', and 'tenure[valkey]' for a server of its own"):
        from tenure.state.stores.valkey import ValkeyEngine  # noqa: PLC0415
    return ValkeyEngine(url, deployment=deployment)


def _postgres(url: str, deployment: str) -> AbstractAsyncContextManager[Engine]:
    with _installed("pip install 'tenure[asyncpg]'"):
        from tenure.state.stores.postgres import PostgresEngine  # noqa: PLC0415
    return PostgresEngine(url, deployment=deployment)


@contextmanager
def _installed(cure: str) -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        msg = f"shared state needs the package `{error.name}`, which is not installed"
        raise MissingExtra(msg, hint=cure) from error


app_engine: Resource[Engine] = EngineResource(_memory, scope="app", name="memory")
host_engine: Resource[Engine] = EngineResource(_embedded, scope="host", name="embedded valkey")
cluster_engine: Resource[Engine] = EngineResource(_by_url, scope="cluster", name="state")

ENGINES: dict[str, Resource[Engine]] = {"app": app_engine, "host": host_engine, "cluster": cluster_engine}


class Handle(Resource[T_co]):
    """
    Shared state, declared once and injected as itself: the declaration keeps nothing, what is injected does.

    Attributes:
        noun: What errors call one of this kind.
    """

    noun: ClassVar[str]

    def __init__(self, name: str, scope: ScopeName) -> None:
        example = f'write `{type(self).__name__}("orders", scope="app")`'
        if not name or ":" in name:
            msg = f"a {self.noun} needs a name without colons, not {name!r}"
            raise DeclarationError(msg, hint=example)
        if len(name.encode(errors="surrogatepass")) > NAME_BYTES:
            msg = f"the name of the {self.noun} `{name}` is longer than {NAME_BYTES} bytes"
            raise DeclarationError(msg, hint="give it a shorter one")
        if scope in {"function", "request"}:
            msg = f"the {self.noun} `{name}` has the scope {scope!r}, in which nothing is shared"
            raise DeclarationError(msg, hint=IN_ONE_PROCESS)
        self._engine: Engine | None = None
        self._is_closed = False
        declaration: FrameType | None = sys._getframe(2)  # noqa: SLF001 (the line that findings are to name)
        while declaration and declaration.f_globals.get("__name__") == "typing":  # `Cache[User](…)` goes by way of it
            declaration = declaration.f_back
        location = place(declaration.f_code.co_filename, declaration.f_lineno) if declaration else None
        super().__init__(self._beginning(scope), scope=scope, name=name, location=location)
        self.__doc__ = type(self).__doc__

    def lacks(self, state: str | None) -> str:
        """Say what would serve its scope, when nothing does."""
        return lacking(self.scope, state)

    def _beginning(self, scope: ScopeName) -> Callable[..., AsyncGenerator[Self]]:
        # The engine is a parameter, so that it starts before what it serves and closes after that.
        async def begin(engine: Any = Depends(ENGINES.get(scope, app_engine))) -> AsyncGenerator[Self]:  # noqa: ANN401, B008 (FastAPI's way)
            serving = copy(self)
            serving._begin(engine)  # noqa: SLF001 (its own kind)
            try:
                yield serving
            finally:
                serving._end()  # noqa: SLF001 (its own kind)

        return begin

    def _begin(self, engine: Engine) -> None:
        """Become the one that is injected."""
        self._engine = engine

    def _end(self) -> None:
        """Refuse from now on what would come after the close."""
        self._engine, self._is_closed = None, True

    def _served(self) -> Engine:
        """
        Give the engine.

        Raises:
            NotStarted: This is the declaration; what is injected has one.
            AlreadyClosed: Its app has closed it.
        """
        if self._engine is not None:
            return self._engine
        if self._is_closed:
            msg = f"the {self.noun} `{self.name}` was used after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")
        msg = f"the {self.noun} `{self.name}` was used as declared, where it keeps nothing"
        inject = f"inject it: `Annotated[{type(self).__name__}, Depends({self.name})]`"
        raise NotStarted(msg, hint=f"{inject}; outside of requests, `await scope.get({self.name})`")


def positive(owner: str, **seconds: float | None) -> None:
    """
    Refuse numbers that are given and not above 0.

    Raises:
        DeclarationError: One of them is not; the message names it.
    """
    for word, number in seconds.items():
        if number is not None and not number > 0:
            msg = f"{word}={number} of the {owner} is not above 0"
            raise DeclarationError(msg)
