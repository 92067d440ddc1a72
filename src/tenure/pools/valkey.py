"""
Valkey or Redis by redis-py: a client that is a resource, one for the app, whose every wait ends.

::

    store = client("valkey://localhost:6379")
    Store = Annotated[redis.asyncio.Redis, Depends(store)]
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from fastapi import Depends

from tenure.calls import caller
from tenure.errors import MissingExtra
from tenure.resources import Resource

try:
    from redis.asyncio import Redis

    from tenure.pools.valkey_pool import ValkeyPool
except ModuleNotFoundError as error:
    if error.name != "redis":
        raise
    msg = "a client of Valkey needs redis-py, which is not installed"
    raise MissingExtra(msg, hint="pip install 'tenure[redis]'") from error
from tenure.pools.base import check_of
from tenure.pools.budget import within_budget
from tenure.pools.settings import Knobs, PoolSettings, dependency, plain
from tenure.pools.stats import PoolStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["PoolSettings", "PoolStats", "ValkeyPool", "ValkeyResource", "client"]


class ValkeyResource(Resource[Redis]):
    """
    A client of a Valkey or Redis server, app-scoped: what `Depends` takes for the `redis.asyncio.Redis` itself.

    Attributes:
        pool: Gives the `ValkeyPool`, app-scoped, which tells how many connections are out, and who has them.
    """

    pool: Resource[ValkeyPool]

    def __init__(self, source: Any, knobs: Knobs, name: str, location: str) -> None:  # noqa: ANN401 (an address, settings or what gives them)
        given = dependency(source)

        async def pooled(given: Any = given) -> AsyncIterator[ValkeyPool]:  # noqa: ANN401 (likewise)
            settings = _settings(given, knobs)
            async with within_budget(name, settings) as size, ValkeyPool(name, settings, size).running() as pool:
                yield pool

        self.pool = Resource(pooled, scope="app", name=f"{name}.pool", location=location)
        self.pool.add_check(check_of(self.pool.name))

        async def opened(pool: ValkeyPool = Depends(self.pool)) -> Redis:  # noqa: B008 (FastAPI's way)
            return Redis(connection_pool=pool)

        super().__init__(opened, scope="app", name=name, location=location)


def client(
    source: str | PoolSettings | Callable[..., Any], /, *, name: str = "valkey", **settings: Unpack[Knobs]
) -> ValkeyResource:
    """
    Declare a client of a Valkey or Redis server, opened when the app starts: one for each process and event loop.

    What fails because the server is away, restarts or is silent, and because all connections are out, raises redis-py's
    own error, which is one of tenure's too: ``redis.ConnectionError`` or ``redis.TimeoutError`` and `Unreachable`,
    ``redis.ConnectionError`` and `PoolExhausted`. So whoever can do without the server catches ``redis.RedisError``, as
    ever; who does not answers 503 with ``Retry-After``. A command that had no answer may have been done or not; none is
    sent twice, unless redis-py is told to, ``options={"retry": …}``.

    Args:
        source: The server's address, ``valkey://``, ``valkeys://`` (with TLS), ``redis://``, ``rediss://`` or
            ``unix://``, or `PoolSettings`; or a dependency, a resource or plain function, that gives either. A Pydantic
            `SecretStr` or `RedisDsn` serves as an address.
        name: What logs and errors call it, unique within an app.
        settings: Any field of `PoolSettings` but the address; it goes before what `source` says. `command_timeout`
            bounds a command that blocks, such as `BLPOP`, as well. `options` is what else redis-py's connections take,
            such as ``{"decode_responses": True}``; they go before what the address says.

    Raises:
        DeclarationError: At start: the address is none, an option is unknown, or a number is not above 0.
        BudgetExceeded: At start: `max_connections` does not suffice for the workers.
        Unreachable: At start: the server cannot be used.
    """
    return ValkeyResource(source, settings, name, caller())


def _settings(given: Any, knobs: Knobs) -> PoolSettings:  # noqa: ANN401 (what a program gives)
    if isinstance(given, PoolSettings):
        return replace(given, **knobs)
    return PoolSettings(dsn=str(plain(given)), **knobs)
