"""
Other services by httpx: a client that is a resource, one for the app, whose every wait ends.

::

    github = client("https://api.github.com", options={"headers": {"Accept": "application/json"}})
    GitHub = Annotated[httpx.AsyncClient, Depends(github)]
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from fastapi import Depends

from tenure.calls import caller
from tenure.errors import DeclarationError, MissingExtra
from tenure.resources import Resource

try:
    import httpx

    from tenure.pools.httpx_pool import UNTIL, ClientPool
    from tenure.pools.httpx_settings import ClientSettings, Knobs
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    msg = "a client of other services needs httpx, which is not installed"
    raise MissingExtra(msg, hint="pip install 'tenure[httpx]'") from error
from tenure.pools.base import check_of
from tenure.pools.settings import dependency
from tenure.pools.stats import PoolStats
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ClientPool", "ClientResource", "ClientSettings", "PoolStats", "client"]

_SSL = frozenset({"cert", "trust_env", "verify"})


class Client(httpx.AsyncClient):
    """httpx's client, whose requests have a deadline in all; httpx has one for each wait only."""

    def __init__(self, pool: ClientPool) -> None:
        settings = pool.settings
        timeout = httpx.Timeout(settings.timeout, connect=settings.connect_timeout, pool=settings.acquire_timeout)
        super().__init__(base_url=settings.base_url, timeout=timeout, transport=pool, **settings.client_options)
        self._pool = pool
        self._deadline = settings.deadline

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401 (as httpx has them)
        """
        Send a request, as httpx does, within its deadline.

        Raises:
            httpx.HTTPError: As httpx has it. What passes by itself is an `Unavailable` of tenure's as well.
            AlreadyClosed: The app has closed the client.
        """
        self._pool.refuse_closed()
        deadline: float | None = request.extensions.get("deadline", self._deadline)
        if deadline is None:
            return await super().send(request, **options)
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                request.extensions[UNTIL] = limit.when()
                return await super().send(request, **options)
        except TimeoutError as error:
            if not limit.expired():
                raise
            reason = f"no answer within {deadline:g} s"
            raise self._pool.failed(request, httpx.TimeoutException, reason) from error


class ClientResource(Resource[httpx.AsyncClient]):
    """
    A client of other services, app-scoped: what `Depends` takes for the `httpx.AsyncClient` itself.

    Attributes:
        pool: Gives the `ClientPool`, app-scoped, which tells how many connections are in use, and by whom.
    """

    pool: Resource[ClientPool]

    def __init__(self, source: Any, knobs: Knobs, name: str, location: str) -> None:  # noqa: ANN401 (a URL, settings or what gives them)
        given = dependency(source)

        async def pooled(given: Any = given) -> AsyncIterator[ClientPool]:  # noqa: ANN401 (likewise)
            async with (await _pool(name, _settings(given, knobs))).running() as pool:
                yield pool

        self.pool = Resource(pooled, scope="app", name=f"{name}.pool", location=location)
        self.pool.add_check(check_of(self.pool.name))

        async def opened(pool: ClientPool = Depends(self.pool)) -> AsyncIterator[httpx.AsyncClient]:  # noqa: B008 (FastAPI's way)
            async with Client(pool) as client:
                yield client

        super().__init__(opened, scope="app", name=name, location=location)


def client(
    source: str | ClientSettings | Callable[..., Any] = "", /, *, name: str = "client", **settings: Unpack[Knobs]
) -> ClientResource:
    """
    Declare a client of other services, made when the app starts and closed when it ends: one for each process and loop.

    What fails because the other service is away, slow, or breaks off, and because all connections are in use, raises
    httpx's own error, which is one of tenure's too: ``httpx.ConnectError`` and `Unreachable`, ``httpx.PoolTimeout`` and
    `PoolExhausted`. So whoever knows what to do without that service catches what httpx documents, and an exception
    handler of the app's for httpx's errors goes first. Who does not care answers 503 with ``Retry-After``, not 500: it
    is not this service that is broken, and the same request may do in a moment.

    Args:
        source: What URLs begin with, or `ClientSettings`; or a dependency, a resource or plain function, that gives
            either. A Pydantic `HttpUrl` serves as a URL.
        name: What logs and errors call it, unique within an app.
        settings: Any field of `ClientSettings`; it goes before what `source` says.

    Raises:
        DeclarationError: At start: the URL is none, a number is not above 0, or an option is none of httpx's.
    """
    return ClientResource(source, settings, name, caller())


def _settings(given: Any, knobs: Knobs) -> ClientSettings:  # noqa: ANN401 (what a program gives)
    settings = given if isinstance(given, ClientSettings) else ClientSettings(base_url=str(given))
    settings = replace(settings, **knobs)
    settings.refuse_nonsense()
    if settings.base_url and not settings.base_url.startswith(("http://", "https://")):
        msg = f"a client was given {type(given).__name__} that is no URL of a service"
        raise DeclarationError(msg, hint="give `https://host/path`, or what returns it; or nothing")
    return settings


async def _pool(name: str, settings: ClientSettings) -> ClientPool:
    options = settings.connection_options
    secured = {key: value for key, value in options.items() if key in _SSL}
    limits = httpx.Limits(max_connections=1, keepalive_expiry=settings.keepalive_expiry)
    try:
        # Once for all, and in a thread: it reads the certificates of all authorities from disk.
        context = await in_worker(partial(httpx.create_ssl_context, **secured))
        make = partial(httpx.AsyncHTTPTransport, **{**options, "verify": context, "cert": None}, limits=limits)
        make()  # opens nothing, but says what it cannot use
    except (TypeError, ValueError, ImportError) as error:
        msg = f"client `{name}` cannot be made: {error}"
        raise DeclarationError(msg, hint="see `httpx.AsyncHTTPTransport` for what its options take") from error
    return ClientPool(name, settings, make)
