"""Connections to other services for httpx: a request has one to itself, and none is lost or waited for without end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

from tenure.cancellation import uninterrupted
from tenure.pools.base import BasePool
from tenure.pools.errors import PoolExhausted, Unreachable
from tenure.pools.sites import site
from tenure.pools.twins import twin

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


class ClientPool(BasePool["ClientSettings"], httpx.AsyncBaseTransport):
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

    noun: ClassVar[str] = "client"

    def __init__(self, name: str, settings: ClientSettings, make: Callable[[], httpx.AsyncHTTPTransport]) -> None:
        super().__init__(name, settings, settings.max_size)
        self._make = make
        self._idle: deque[Line] = deque()
        self._ending: set[asyncio.Task[None]] = set()

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
        allowed = request.extensions.get("timeout", {}).get("pool") or self.settings.acquire_timeout
        until = request.extensions.get(UNTIL)
        if until is not None:
            allowed = min(allowed, (until - self._loop.time()) * SHARE)
        try:
            loan = await self.place(site(), timeout=allowed)
        except PoolExhausted as error:
            raise twin(error, httpx.PoolTimeout) from None
        loan.connection = self._line((request.url.scheme, request.url.host, request.url.port))
        self._places.lent(loan)
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
        line, loan.connection = loan.connection, None
        self._places.give_back(loan)
        if line is None:
            return
        line.used = self._loop.time()
        self._idle.append(line)
        while self._idle[0].used < line.used - self.settings.keepalive_expiry:
            ending = asyncio.create_task(self._ended(self._idle.popleft()), name=f"tenure: a connection of {self.name}")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def drop(self, loan: Loan) -> None:
        """End a connection whose request has not come to a good end, and give its place back."""
        line, loan.connection = loan.connection, None
        try:
            if line is not None:
                await self._ended(line)
        finally:
            self._places.give_back(loan)

    async def _ended(self, line: Line) -> None:
        try:
            async with asyncio.timeout(self.settings.release_timeout):
                await line.transport.aclose()
        except (TimeoutError, httpx.TransportError) as error:
            self._killed += 1
            logger.warning(
                "a connection of client %s could not be closed in good order: %r",
                self.name,
                error,
                extra={"tenure_event": "connection-ended", "tenure_pool": self.name},
            )

    def away(self, request: httpx.Request, error: httpx.TransportError) -> httpx.TransportError:
        """Say that the other service is away, by an error that httpx has for it and FastAPI answers 503."""
        reason = str(error) or f"no answer in time ({type(error).__name__})"
        return self.failed(request, type(error), reason)

    def failed(self, request: httpx.Request, theirs: type[httpx.TransportError], reason: str) -> httpx.TransportError:
        """Give the error that says so, and tell the log, which has nothing else where FastAPI answers it."""
        url = request.url
        where = f"{url.scheme}://{url.netloc.decode('ascii')}"  # a path or query may hold what is secret
        error = Unreachable(
            f"{request.method} {where} by client `{self.name}` has failed: {reason}",
            hint=f"see that the service runs; where there is something to do without it, catch httpx.{theirs.__name__}",
        )
        self._log(error, logging.WARNING)
        made = twin(error, theirs, told=TOLD)
        made.request = request
        return made

    async def aclose(self) -> None:
        """Close all connections, as httpx has its client do."""
        await self._shut_down()

    def _count(self) -> int:
        return len(self._idle) + len(self._places.loans)

    async def _open(self) -> None:
        """Open nothing: it is the first request that leads somewhere."""

    async def _close(self, left: list[Loan]) -> None:
        await asyncio.gather(
            *(self.drop(loan) for loan in left), *(self._ended(line) for line in self._idle), *self._ending
        )

    async def _probe(self) -> None:
        """Take it that the other services answer: there may be many, and one that is silent is no reason for all."""

    def _end(self, loan: Loan) -> None:
        """End nothing, as none is taken for silent."""


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
