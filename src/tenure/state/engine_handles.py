"""The engine of each scope, one for all its handles in a process, and the handles over it."""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fastapi import Depends

from tenure.errors import DeclarationError, MissingExtra
from tenure.state.deployments import current_deployment
from tenure.state.engines import EngineResource, state_address
from tenure.state.handles import Handle
from tenure.state.stores.memory_engine import MemoryEngine
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from tenure.resources import Resource
    from tenure.scopes import ScopeName
    from tenure.state.engine import Engine
    from tenure.state.engines import Address

T_co = TypeVar("T_co", covariant=True)


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


async def _by_url(address: Any = Depends(state_address)) -> AsyncIterator[Engine]:  # noqa: ANN401, B008 (FastAPI's way)
    """Keep the state that machines share, where the app's settings say."""
    if address.url.startswith("postgres"):
        engine = _postgres(address, current_deployment())
    else:
        engine = _valkey(address.url, current_deployment())
    async with engine as entered:
        yield entered


def _valkey(url: str, deployment: str) -> AbstractAsyncContextManager[Engine]:
    with _installed("pip install 'tenure[state]', and 'tenure[valkey]' for a server of its own"):
        from tenure.state.stores.valkey import ValkeyEngine  # noqa: PLC0415
    return ValkeyEngine(url, deployment=deployment)


def _postgres(address: Address, deployment: str) -> AbstractAsyncContextManager[Engine]:
    with _installed("pip install 'tenure[asyncpg]'"):
        from tenure.state.stores.postgres import PostgresEngine  # noqa: PLC0415
    return PostgresEngine(address.url, deployment=deployment, pool=address.pool)


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


class EngineHandle(Handle[T_co]):
    """A handle whose state an engine keeps, under keys that have its name in them."""

    def __init__(self, name: str, scope: ScopeName) -> None:
        self._refuse_no_name(name)
        if ":" in name:
            msg = f"a {self.noun} needs a name without colons, not {name!r}"
            raise DeclarationError(msg, hint=self._example())
        self._engine: Engine | None = None
        super().__init__(name, scope, self._beginning(scope))

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
        if self._engine is None:
            raise self._unusable()
        return self._engine
