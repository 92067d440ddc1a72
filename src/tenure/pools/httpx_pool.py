"""Connections to other services for httpx: a request has one to itself, and none is lost or waited for without end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import httpx

from tenure.cancellation import uninterrupted
from tenure.errors import AlreadyClosed
from tenure.pools.errors import PoolExhausted, Unreachable
from tenure.pools.places import Places
from tenure.pools.sites import site
from tenure.pools.stats import PoolStats
from tenure.pools.twins import twin
from tenure.pools.watch import tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tenure.pools.httpx_settings import ClientSettings
    from tenure.pools.places import Loan

logger = logging.getLogger("tenure")

AWAY = (httpx.TimeoutException, httpx.NetworkError, httpx.ProxyError, httpx.RemoteProtocolError)
"""What httpx raises when the other service is away, slow or breaks off: no mistake of the program's."""
UNTIL = "tenure.until"
"""Where a request's extensions say when it is given up, in seconds of the event loop's clock."""
SHARE = 0.9
"""How much of its time a request may wait for a connection, so that this is told apart from a slow service."""
TOLD = "another service does not answer at the moment"


class Line:
    """A connection that is lent: opened by the first request, and kept open from one to the next."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self.transport = transport
        self.origin: tuple[str, str, int | None] | None = None
        self.used = 0.0
        self.timer: asyncio.TimerHandle | None = None


class ClientPool(httpx.AsyncBaseTransport):
    """
    Connections of an httpx client, none of which is waited for without end; ``Depends(api.pool)``.

    A request has a connection to itself from when it is sent until its response has been read or closed. httpx's own
    pool is not asked to share any: where a request is cancelled at a bad moment, it takes the connection for one that
    is being opened, for ever. Here each is by itself, and is ended where a request has not come to a good end.

    Belongs to one app, process and event loop.

    Args:
        name: What logs and errors call it.
        settings: What it is like.
        make: Makes what holds one connection; it opens nothing.
    """

    def __init__(self, name: str, settings: ClientSettings, make: Callable[[], httpx.AsyncHTTPTransport]) -> None:
        self.name = name
        self.settings = settings
        self._make = make
        self._places = Places(name, settings.max_size)
        self._idle: deque[Line] = deque()
        self._ending: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._told: dict[type, float] = {}
        self._killed = self._leaked = 0
        self.is_closed = False

    @property
    def stats(self) -> PoolStats:
        """How the pool is doing."""
        return PoolStats(
            size=self._places.size,
            open=len(self._idle) + len(self._places.loans),
            in_use=len(self._places.loans),
            waiting=self._places.waiting,
            refused=self._places.refused,
            killed=self._killed,
            leaked=self._leaked,
        )

    def holders(self) -> list[str]:
        """Say who holds a connection: since when, for which request, asked for at which line; longest first."""
        return self._places.held()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send a request, and give its response, whose connection is free again when it has been read or closed.

        Raises:
            httpx.TransportError: As httpx has it. What passes by itself is an `Unavailable` of tenure's as well.
            AlreadyClosed: The app has closed the client.
        """
        loan = await self._lend(request)
        try:
            response = await loan.connection.transport.handle_async_request(request)
        except BaseException as error:
            await uninterrupted(self.drop(loan))
            if isinstance(error, AWAY):
                raise self.away(request, error) from error
            raise
        response.stream = _Stream(self, loan, request, response.stream)
        return response  # type: ignore[no-any-return] # a loan's connection is the driver's

    async def _lend(self, request: httpx.Request) -> Loan:
        self.refuse_closed()
        allowed = request.extensions.get("timeout", {}).get("pool") or self.settings.acquire_timeout
        until = request.extensions.get(UNTIL)
        if until is not None:
            allowed = min(allowed, (until - self._loop.time()) * SHARE)
        try:
            loan = await self._places.take(site(), timeout=allowed)
        except PoolExhausted as error:
            self._log(logging.ERROR, error)
            raise twin(error, httpx.PoolTimeout) from None
        if self.is_closed:  # since it began to wait
            self._places.give_back(loan)
            self.refuse_closed()
        line = loan.connection = self._line((request.url.scheme, request.url.host, request.url.port))
        line.timer = self._loop.call_later(self.settings.leak_after, self._report, loan)
        return loan

    def _line(self, origin: tuple[str, str, int | None]) -> Line:
        """Give a connection that leads there already, or one that will."""
        line = next((each for each in reversed(self._idle) if each.origin == origin), None)
        if line is not None:
            self._idle.remove(line)
        elif len(self._idle) + len(self._places.loans) > self._places.size:
            line = self._idle.popleft()  # which ends what it has open to elsewhere
        else:
            line = Line(self._make())
        line.origin = origin
        return line

    def take_back(self, loan: Loan) -> None:
        """Give back a connection whose request has come to a good end."""
        line = self._returned(loan)
        self._places.give_back(loan)
        if line is None:
            return
        line.used = self._loop.time()
        self._idle.append(line)
        while self._idle[0].used < line.used - self.settings.keepalive_expiry:
            ending = asyncio.create_task(self._end(self._idle.popleft()), name=f"tenure: a connection of {self.name}")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def drop(self, loan: Loan) -> None:
        """End a connection whose request has not come to a good end, and give its place back."""
        line = self._returned(loan)
        try:
            if line is not None:
                await self._end(line)
        finally:
            self._places.give_back(loan)

    def _returned(self, loan: Loan) -> Line | None:
        line: Line | None = loan.connection
        loan.connection = None
        if line is not None and line.timer is not None:
            line.timer.cancel()
        return line

    async def _end(self, line: Line) -> None:
        try:
            async with asyncio.timeout(self.settings.release_timeout):
                await line.transport.aclose()
        except (TimeoutError, httpx.TransportError) as error:
            self._killed += 1
            logger.warning("a connection of client %s could not be closed in good order: %r", self.name, error)

    def away(self, request: httpx.Request, error: httpx.TransportError) -> httpx.TransportError:
        """Say that the other service is away, by an error that httpx has for it and FastAPI answers 503."""
        reason = str(error) or f"no answer in time ({type(error).__name__})"
        return self.unreachable(request, type(error), reason)

    def unreachable(
        self, request: httpx.Request, theirs: type[httpx.TransportError], reason: str
    ) -> httpx.TransportError:
        """Give the error that says so, and tell the log, which has nothing else where FastAPI answers it."""
        url = request.url
        where = f"{url.scheme}://{url.netloc.decode('ascii')}"  # a path or query may hold what is secret
        error = Unreachable(
            f"{request.method} {where} by client `{self.name}` has failed: {reason}",
            hint=f"see that the service runs; where there is something to do without it, catch httpx.{theirs.__name__}",
        )
        self._log(logging.WARNING, error)
        made = twin(error, theirs, told=TOLD)
        made.request = request
        return made

    def _log(self, level: int, error: PoolExhausted | Unreachable) -> None:
        now = self._loop.time()
        if now - self._told.get(type(error), now - 1) >= 1:  # once a second: each would take the time that is missing
            self._told[type(error)] = now
            logger.log(level, "%s", error, extra={"tenure_pool": self.name})

    def _report(self, loan: Loan) -> None:
        self._leaked += 1
        tell(self.name, loan, self._loop.time())

    def refuse_closed(self) -> None:
        """
        Refuse to send anything once the app has closed the client.

        Raises:
            AlreadyClosed: It has.
        """
        if self.is_closed:
            msg = f"client `{self.name}` was used after its app had closed it"
            raise AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")

    async def aclose(self) -> None:
        """Close all connections; those that are out are waited for a little, named with their stack, and ended."""
        if not self.is_closed:
            self.is_closed = True
            await uninterrupted(self._closing())

    async def _closing(self) -> None:
        await self._places.emptied(self.settings.release_timeout / 2)
        loans = list(self._places.loans)
        for loan in loans:
            tell(self.name, loan, self._loop.time())
        await asyncio.gather(
            *(self.drop(loan) for loan in loans), *(self._end(line) for line in self._idle), *self._ending
        )


class _Stream(httpx.AsyncByteStream):
    """The body of a response, which has its connection until it has been read or closed."""

    def __init__(self, pool: ClientPool, loan: Loan, request: httpx.Request, inner: Any) -> None:  # noqa: ANN401 (httpx's stream)
        self._pool = pool
        self._loan: Loan | None = loan
        self._request = request
        self._inner = inner
        self._is_spoiled = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                yield part
        except BaseException as error:
            self._is_spoiled = True
            if isinstance(error, AWAY):
                raise self._pool.away(self._request, error) from error
            raise

    async def aclose(self) -> None:
        """Free the connection."""
        loan, self._loan = self._loan, None
        if loan is None:
            return
        is_well = False
        try:
            if not self._is_spoiled:
                await self._inner.aclose()
                is_well = True
        finally:
            if is_well:
                self._pool.take_back(loan)
            else:
                await uninterrupted(self._pool.drop(loan))
