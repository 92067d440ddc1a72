"""
PostgreSQL by SQLAlchemy: an engine that is a resource, and the sessions on it, async or sync.

::

    database = engine("postgresql+asyncpg://…")
    Session = Annotated[AsyncSession, Depends(database.session)]               # committed before the answer
    Sessions = Annotated[async_sessionmaker[AsyncSession], Depends(database.sessions)]  # one for each use

    reports = sync_engine("postgresql+psycopg://…")
    ReportSession = Annotated[sqlalchemy.orm.Session, Depends(reports.session)]  # for `def` handlers
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from fastapi import Depends

from tenure.calls import caller
from tenure.errors import DeclarationError, MissingExtra
from tenure.resources import Resource

try:
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    from tenure.pools.sqlalchemy_async import AsyncEnginePool
    from tenure.pools.sqlalchemy_sync import SyncEnginePool
except ModuleNotFoundError as error:
    if error.name not in {"asyncpg", "greenlet", "psycopg", "sqlalchemy"}:
        raise
    msg = f"an SQLAlchemy engine needs {error.name}, which is not installed"
    raise MissingExtra(msg, hint="pip install 'tenure[sqlalchemy]'") from error
from tenure.pools.base import check_of
from tenure.pools.budget import within_budget
from tenure.pools.settings import Knobs, PoolSettings, dependency, plain
from tenure.state.stores.addresses import has_stray, unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session

__all__ = [
    "AsyncEnginePool",
    "EngineResource",
    "PoolSettings",
    "SyncEnginePool",
    "SyncEngineResource",
    "engine",
    "sync_engine",
]


P = TypeVar("P", AsyncEnginePool, SyncEnginePool)


class EngineResource(Resource["AsyncEngine"]):
    """
    An SQLAlchemy engine, app-scoped: what `Depends` takes for the `AsyncEngine` itself.

    Attributes:
        session: Gives an `AsyncSession`, function-scoped: its connection is borrowed at the first statement; it is
            committed when the handler has returned and before the first byte of the answer, and rolled back when it
            raises, a ``HTTPException(404)`` as well. Where a statement has failed and its error was caught, the commit
            raises `TransactionFailed`, unless it was in a savepoint.
        sessions: Gives what makes sessions, app-scoped, for streams, background tasks and websockets:
            ``async with sessions() as session`` for each use, ``async with sessions.begin() as session`` to commit.
        pool: Gives the `AsyncEnginePool`, app-scoped, which tells how many connections are out, and who has them.
    """

    def __init__(self, source: Any, knobs: Knobs, name: str, location: str) -> None:  # noqa: ANN401 (a URL, settings or what gives them)
        guarded = _pool(AsyncEnginePool, source, knobs, name, location)
        pool = Depends(guarded)

        async def engine(pool: AsyncEnginePool = pool) -> AsyncEngine:
            return pool.engine

        async def sessions(pool: AsyncEnginePool = pool) -> async_sessionmaker[AsyncSession]:
            return cast("async_sessionmaker[AsyncSession]", pool.sessions)

        async def session(pool: AsyncEnginePool = pool) -> AsyncIterator[AsyncSession]:
            session = pool.sessions()
            try:
                yield session
                await session.commit()
            finally:
                await session.end()

        super().__init__(engine, scope="app", name=name, location=location)
        self.pool = guarded
        self.sessions: Resource[async_sessionmaker[AsyncSession]] = Resource(
            sessions, scope="app", name=f"{name}.sessions", location=location
        )
        self.session: Resource[AsyncSession] = Resource(
            session, scope="function", name=f"{name}.session", location=location
        )


class SyncEngineResource(Resource["Engine"]):
    """
    An SQLAlchemy engine for `def` handlers, app-scoped: what `Depends` takes for the `Engine` itself.

    Attributes:
        session: Gives a `Session`, function-scoped, for `def` handlers and dependencies. A place in the pool is waited
            for before a thread is taken, so that no thread waits for a connection; it is held until the handler has
            returned. The session is committed before the first byte of the answer, in a thread of the pool's own, and
            rolled back when the handler raises, a ``HTTPException(404)`` as well.
        pool: Gives the `SyncEnginePool`, app-scoped: ``await pool.run(function)`` calls a sync function with a session,
            for streams, background tasks and websockets; it tells too how many connections are out, and who has them.
    """

    def __init__(self, source: Any, knobs: Knobs, name: str, location: str) -> None:  # noqa: ANN401 (a URL, settings or what gives them)
        guarded = _pool(SyncEnginePool, source, knobs, name, location)
        pool = Depends(guarded)

        async def engine(pool: SyncEnginePool = pool) -> Engine:
            return pool.engine

        async def session(pool: SyncEnginePool = pool) -> AsyncIterator[Session]:
            async with pool.session() as session:
                yield session

        super().__init__(engine, scope="app", name=name, location=location)
        self.pool = guarded
        self.session: Resource[Session] = Resource(session, scope="function", name=f"{name}.session", location=location)


def engine(
    source: str | URL | PoolSettings | Callable[..., Any], /, *, name: str = "engine", **settings: Unpack[Knobs]
) -> EngineResource:
    """
    Declare an SQLAlchemy engine for `async def` handlers, over asyncpg, opened when the app starts.

    Args:
        source: The database's address, ``postgresql+asyncpg://…`` or an SQLAlchemy `URL`, or `PoolSettings`; or a
            dependency, a resource or plain function, that gives one of them. A Pydantic `SecretStr` or `PostgresDsn`
            serves as an address.
        name: What logs and errors call it, unique within an app.
        settings: Any field of `PoolSettings` but the address; it goes before what `source` says. `options` is what
            else `create_async_engine` takes, such as ``{"echo": True, "connect_args": {"ssl": "require"}}``.

    Raises:
        DeclarationError: At start: the address is none of asyncpg's, or a number is not above 0.
        BudgetExceeded: At start: `max_connections` does not suffice for the workers.
        Unreachable: At start: the server cannot be used.
    """
    return EngineResource(source, settings, name, caller())


def sync_engine(
    source: str | URL | PoolSettings | Callable[..., Any], /, *, name: str = "sync_engine", **settings: Unpack[Knobs]
) -> SyncEngineResource:
    """
    Declare an SQLAlchemy engine for `def` handlers, over psycopg, opened when the app starts.

    Takes what `engine` takes, with ``postgresql+psycopg://…``, and raises what it does. A statement has its
    `command_timeout` from the server, as its ``statement_timeout``.
    """
    return SyncEngineResource(source, settings, name, caller())


def _pool(kind: type[P], source: Any, knobs: Knobs, name: str, location: str) -> Resource[P]:  # noqa: ANN401 (a URL, settings or what gives them)
    default: Any = dependency(source)

    async def guarding(given: Any = default) -> AsyncIterator[P]:  # noqa: ANN401 (likewise)
        url, settings = _settings(given, knobs, kind.driver)
        async with within_budget(name, settings) as size, kind(name, url, settings, size).running() as pool:
            yield pool

    guarded: Resource[P] = Resource(guarding, scope="app", name=f"{name}.pool", location=location)
    guarded.add_check(check_of(guarded.name))
    return guarded


def _settings(given: Any, knobs: Knobs, driver: str) -> tuple[URL, PoolSettings]:  # noqa: ANN401 (what a program gives)
    address = plain(given.dsn if isinstance(given, PoolSettings) else given)
    like = f"give `postgresql+{driver}://user:password@host:port/database`"
    if not isinstance(address, URL) and has_stray(str(address).partition("@")[2]):
        what = "an address that an engine was given"
        raise unreadable(what, like)
    url = address if isinstance(address, URL) else _parsed(address)
    if url is None or url.drivername not in {"postgresql", "postgres", f"postgresql+{driver}"}:
        msg = f"an engine was given {type(given).__name__} that is no address of a PostgreSQL for {driver}"
        raise DeclarationError(msg, hint=f"{like}, or what returns it")
    url = url.set(drivername=f"postgresql+{driver}")
    if driver == "asyncpg" and "sslmode" in url.query:  # the name that libpq, psycopg and asyncpg's own addresses have
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
    if isinstance(given, PoolSettings):
        return url, replace(given, **knobs)
    return url, PoolSettings(dsn=url.render_as_string(hide_password=False), **knobs)


def _parsed(address: Any) -> URL | None:  # noqa: ANN401 (what a program gives)
    try:
        return make_url(str(address))
    except (ArgumentError, ValueError):  # as of a port that is none
        return None
