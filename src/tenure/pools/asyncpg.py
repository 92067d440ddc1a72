"""
PostgreSQL by asyncpg: a pool that is a resource, and what borrows from it.

::

    database = pool("postgresql://…")
    Database = Annotated[Connection, Depends(database.connection)]      # each statement by itself
    Transaction = Annotated[Connection, Depends(database.transaction)]  # all or nothing, committed before the answer
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from fastapi import Depends

from tenure.calls import caller
from tenure.errors import DeclarationError, MissingExtra
from tenure.resources import Resource

try:
    from tenure.pools.asyncpg_connection import Connection
    from tenure.pools.asyncpg_pin import Begin, Isolation, Pin, pinned, pinning
    from tenure.pools.asyncpg_pool import Pool
except ModuleNotFoundError as error:
    if error.name != "asyncpg":
        raise
    msg = "a pool of PostgreSQL connections needs asyncpg, which is not installed"
    raise MissingExtra(msg, hint="pip install 'tenure[asyncpg]'") from error
from tenure.pools.base import check_of
from tenure.pools.budget import within_budget
from tenure.pools.settings import Knobs, PoolSettings, dependency, plain
from tenure.pools.sites import site
from tenure.pools.stats import PoolStats
from tenure.state.stores.addresses import refuse_misread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Connection", "Pool", "PoolResource", "PoolSettings", "PoolStats", "pool"]

_LIKE = "give `postgresql://user:password@host:port/database`"


class PoolResource(Resource[Pool]):
    """
    A pool of PostgreSQL connections, app-scoped: what `Depends` takes for the `Pool` itself.

    Attributes:
        connection: Gives a `Connection` whose every statement has a connection of the pool for as long as it runs.
            App-scoped: it costs a request nothing, and is good for streams, background tasks and websockets too.
        transaction: Gives a `Connection` in a transaction, function-scoped: borrowed at the first statement, committed
            when the handler has returned and before the first byte of the answer, rolled back when it raises, a
            ``HTTPException(404)`` as well. What uses `connection` in the same request is part of it.
    """

    connection: Resource[Connection]
    transaction: Resource[Connection]

    def __init__(self, source: Any, knobs: Knobs, name: str, location: str) -> None:  # noqa: ANN401 (a DSN, settings or what gives them)
        given = dependency(source)

        async def opened(given: Any = given) -> AsyncIterator[Pool]:  # noqa: ANN401 (likewise)
            settings = _settings(given, knobs)
            async with within_budget(name, settings) as size, Pool(name, settings, size).running() as pool:
                yield pool

        super().__init__(opened, scope="app", name=name, location=location)
        self.add_check(check_of(name))
        self.connection = self._connection(location)
        self.transaction = self._transactions({}, f"{name}.transaction", location)

    def _connection(self, location: str) -> Resource[Connection]:
        async def connection(pool: Pool = Depends(self)) -> Connection:  # noqa: B008 (FastAPI's way)
            return Connection(pool)

        return Resource(connection, scope="app", name=f"{self.name}.connection", location=location)

    def transactions(
        self,
        *,
        isolation: Isolation | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        name: str | None = None,
    ) -> Resource[Connection]:
        """Give a dependency as `transaction` is, whose transaction begins so; declare it once, at module level."""
        begin: Begin = {"isolation": isolation, "readonly": readonly, "deferrable": deferrable}
        return self._transactions(begin, name, caller())

    def _transactions(self, begin: Begin, name: str | None, location: str) -> Resource[Connection]:
        async def transaction(pool: Pool = Depends(self)) -> AsyncIterator[Connection]:  # noqa: B008 (FastAPI's way)
            held = pinned(pool)
            if held is not None:
                async with held.transaction(site(), begin):
                    yield Connection(pool, held)
                return
            async with pinning(Pin(pool, begin)) as pin:
                yield Connection(pool, pin)

        return Resource(transaction, scope="function", name=name, location=location)


def pool(
    source: str | PoolSettings | Callable[..., Any], /, *, name: str = "pool", **settings: Unpack[Knobs]
) -> PoolResource:
    """
    Declare a pool of PostgreSQL connections, opened when the app starts.

    Args:
        source: The database's address, or `PoolSettings`; or a dependency, a resource or plain function, that gives
            either. A Pydantic `SecretStr` or `PostgresDsn` serves as an address.
        name: What logs and errors call it, unique within an app.
        settings: Any field of `PoolSettings` but the address; it goes before what `source` says.

    Raises:
        DeclarationError: At start: the address is none, or a number is not above 0.
        BudgetExceeded: At start: `max_connections` does not suffice for the workers.
        Unreachable: At start: the server cannot be used.
    """
    return PoolResource(source, settings, name, caller())


def _settings(given: Any, knobs: Knobs) -> PoolSettings:  # noqa: ANN401 (what a program gives)
    if isinstance(given, PoolSettings):
        settings = replace(given, **knobs)
    else:
        settings = PoolSettings(dsn=str(plain(given)), **knobs)
        if not settings.dsn.startswith(("postgresql://", "postgres://")):
            msg = f"a pool was given {type(given).__name__} that is no address of a PostgreSQL"
            raise DeclarationError(msg, hint=f"{_LIKE}, or what returns it")
    refuse_misread(settings.dsn, "an address that a pool was given", _LIKE)
    return settings
