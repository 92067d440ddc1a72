"""
The engine over Valkey or Redis: values, numbers, locks and topics that all who know its address share.

Valkey runs one command, or one script, at a time: each call here is one of them, and so atomic. What it promises is
what one server can: a server that fails over to a replica may forget the last writes, and then a lock may have two
holders for as long as a lease. Their tokens still differ and rise, for they follow the server's clock.

Valkey evicts by expiry and use, and cannot tell a lock or the count of a limit from a cached value. So the embedded one
evicts nothing (`noeviction`), and a server by URL should not either. Where one is full, the engine drops cached values
of its deployment, those that were not used for long first, and never a lock or a number.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, Self

from tenure.errors import StateError, StateFull, StateUnavailable
from tenure.state.stores import LONGEST_TTL
from tenure.state.stores.subscriptions import Subscriptions
from tenure.state.stores.whole_numbers import beyond_64_bits, no_number, within_64_bits
from tenure.state.stores.wire import Line, NotInCharge, OutOfMemory, Refused, Server, Unanswered, UnknownScript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from tenure.state.engines import Missed
    from tenure.state.stores.wire import Word

logger = logging.getLogger("tenure.state")

DEADLINE = 1.0
"""Seconds after which a call is given up, unless an engine is told otherwise."""
_DROPPED_AT_ONCE = 64


class Script:
    """A program that Valkey runs in one step; it is sent once, and known by its digest from then on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


INCREMENT: Final = Script("""
local is_first = redis.call('EXISTS', KEYS[1]) == 0
redis.call('INCRBY', KEYS[1], ARGV[1])
if is_first then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])
""")
"""Returns the digits of the number: Lua's own numbers are exact to 53 bits only."""

ACQUIRE: Final = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
local now = redis.call('TIME')
local clock = now[1] * 1000000 + now[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = string.format('%.0f', math.max(clock, last + 1))
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return token
""")
"""The token is microseconds of the server's clock, or one more than the last: it rises also after all was forgotten."""

RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

MAKE_ROOM: Final = Script("""
local dropped = 0
for _ = 1, tonumber(ARGV[2]) do
  local idlest, longest = nil, -1
  for _ = 1, 5 do
    local key = redis.call('RANDOMKEY')
    if key and string.sub(key, 1, #ARGV[1]) == ARGV[1] then
      local kind = redis.call('OBJECT', 'ENCODING', key)
      local idle = kind and kind ~= 'int' and redis.call('OBJECT', 'IDLETIME', key)
      if idle and idle > longest then idlest, longest = key, idle end
    end
  end
  if idlest then dropped = dropped + redis.call('DEL', idlest) end
end
return dropped
""")
"""Drops values, the longest unused of five at a time; numbers, which Valkey encodes as such, are spared."""


class ValkeyEngine:
    """
    Keeps shared state in Valkey or Redis.

    It serves the event loop in which it was entered, over one connection for all calls and one for all subscriptions.
    Both come back by themselves when they were lost. A call waits for that within its deadline; once the server has
    been gone for longer, it says so at once.

    ::

        async with ValkeyEngine("valkey://localhost", deployment="roster") as engine:
            await engine.set("cache:sessions:42", b"...", ttl=60)

    Args:
        url: The server's address: ``valkey://``, ``valkeys://`` (TLS), ``redis://``, ``rediss://`` or ``unix://``.
        deployment: Stands before all keys and names, so that those of others are others.
        deadline: Seconds after which a call is given up.

    Raises:
        DeclarationError: That is no such address.
    """

    def __init__(self, url: str, *, deployment: str, deadline: float = DEADLINE) -> None:
        self._prefix = f"tenure:{deployment}"
        self._server = Server(url, deadline)
        self._deadline = deadline
        self._line = Line(self._server, deadline)
        self._subscriptions = Subscriptions(self._server, deadline)

    async def __aenter__(self) -> Self:
        """
        Reach the server once.

        Raises:
            StateUnavailable: It does not answer.
        """
        try:
            await self._warn_of_eviction()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections; who iterates over messages comes to the end of them."""
        await self._subscriptions.close()
        await self._line.close()

    async def get(self, key: str) -> bytes | None:
        """Give a value, or nothing when there is none or it has expired."""
        value: bytes | None = await self._do("GET", self._value(key))
        return value

    async def set(self, key: str, value: bytes, *, ttl: float | None) -> None:
        """Keep a value for `ttl` seconds, or until it is deleted or room is made for others."""
        expiry: tuple[Word, ...] = () if ttl is None else ("PX", _milliseconds(ttl))
        await self._do("SET", self._value(key), value, *expiry)

    async def delete(self, key: str) -> bool:
        """Delete a value, and tell whether there was one."""
        return bool(await self._do("DEL", self._value(key)))

    async def keep(self, key: str, value: bytes) -> None:
        """Keep a value for good, as far as the server does, unless one is; no room is made of it for others."""
        await self._do("SET", f"{self._prefix}:kept:{key}", value, "NX")

    async def kept(self, key: str) -> bytes | None:
        """Give what `keep` has kept, or nothing."""
        value: bytes | None = await self._do("GET", f"{self._prefix}:kept:{key}")
        return value

    async def increment(self, key: str, by: int, *, ttl: float | None) -> int:
        """
        Add to a number in one atomic step, and give the new one; the first add begins at 0 and sets the expiry.

        Raises:
            StateMismatch: What is kept there is not a whole number.
            StateFull: The number would leave 64 bits. It is as it was.
        """
        within_64_bits(by, key)
        if ttl is None:
            return int(await self._do("INCRBY", self._value(key), by))
        return int(await self._run(INCREMENT, [self._value(key)], by, _milliseconds(ttl)))

    async def acquire(self, name: str, *, holder: str, lease: float) -> int | None:
        """Take a lock for `lease` seconds, unless another holder has it; give a token above all before."""
        keys = [self._lock(name), f"{self._prefix}:token"]
        token: bytes | None = await self._run(ACQUIRE, keys, holder, _milliseconds(lease))
        return None if token is None else int(token)

    async def renew(self, name: str, *, holder: str, lease: float) -> bool:
        """Hold a lock for `lease` seconds from now, and tell whether it was still held."""
        return bool(await self._run(RENEW, [self._lock(name)], holder, _milliseconds(lease)))

    async def release(self, name: str, *, holder: str) -> None:
        """Give a lock back, if it is still held by this holder."""
        await self._run(RELEASE, [self._lock(name)], holder)

    async def publish(self, topic: str, message: bytes) -> None:
        """Send a message to all who are subscribed now."""
        await self._do("PUBLISH", self._channel(topic), message)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncGenerator[AsyncIterator[bytes | Missed]]:
        """Receive what is published from the enter on, with `MISSED` where something may have been lost."""
        async with AsyncExitStack() as stack:
            try:
                messages = await stack.enter_async_context(self._subscriptions.subscribe(self._channel(topic)))
            except Unanswered as error:
                raise self._unavailable(error) from error
            yield messages

    def _value(self, key: str) -> str:
        return f"{self._prefix}:value:{key}"

    def _lock(self, name: str) -> str:
        return f"{self._prefix}:lock:{name}"

    def _channel(self, topic: str) -> str:
        return f"{self._prefix}:topic:{topic}"

    async def _do(self, *words: Word) -> Any:  # noqa: ANN401 (what Valkey answers)
        return await self._with_room(lambda until: self._line.ask(*words, until=until))

    async def _run(self, script: Script, keys: Sequence[str], *arguments: Word) -> Any:  # noqa: ANN401 (what it returns)
        return await self._with_room(lambda until: self._evaluate(until, script, keys, *arguments))

    async def _evaluate(self, until: float, script: Script, keys: Sequence[str], *arguments: Word) -> Any:  # noqa: ANN401 (likewise)
        try:
            return await self._line.ask("EVALSHA", script.digest, len(keys), *keys, *arguments, until=until)
        except UnknownScript:
            return await self._line.ask("EVAL", script.text, len(keys), *keys, *arguments, until=until)

    async def _with_room(self, attempt: Callable[[float], Awaitable[Any]]) -> Any:  # noqa: ANN401 (likewise)
        """Make an attempt, and while the server is full, make room and another attempt."""
        until = asyncio.get_running_loop().time() + self._deadline
        try:
            while True:
                try:
                    return await attempt(until)
                except OutOfMemory:
                    if not await self._evaluate(until, MAKE_ROOM, (), self._value(""), _DROPPED_AT_ONCE):
                        raise
        except Unanswered as error:
            raise self._unavailable(error) from error
        except Refused as error:
            raise self._refusal(error) from error

    def _unavailable(self, error: Exception) -> StateUnavailable:
        message = f"the Valkey at {self._server.name} cannot be used: {error}"
        return StateUnavailable(message, hint="see that it runs; what was not answered may have been done or not")

    def _refusal(self, error: Refused) -> StateError:
        said = str(error)
        if isinstance(error, OutOfMemory):
            message = f"the Valkey at {self._server.name} is full, and has no cached values left to drop"
            return StateFull(message, hint="let it keep more: its setting `maxmemory`, or `TENURE_VALKEY_MEMORY`")
        if "overflow" in said:
            return beyond_64_bits()
        if "not an integer" in said or said.startswith("WRONGTYPE"):
            return no_number()
        if isinstance(error, NotInCharge):
            self._line.renew()
        return self._unavailable(error)

    async def _warn_of_eviction(self) -> None:
        try:
            until = asyncio.get_running_loop().time() + self._deadline
            memory: bytes = await self._line.ask("INFO", "memory", until=until)
        except Unanswered as error:
            raise self._unavailable(error) from error
        except Refused:
            return  # not every user may ask
        policy = re.search(rb"^maxmemory_policy:(.+?)\r?$", memory, re.MULTILINE)
        if policy and policy[1] != b"noeviction" and b"\nmaxmemory:0\r" not in memory:
            message = "the Valkey at %s evicts locks and limits when it is full (%s): give it the policy `noeviction`"
            logger.warning(
                message,
                self._server.name,
                policy[1].decode(),
                extra={"tenure_event": "engine-evicts", "tenure_engine": self._server.name},
            )


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(min(seconds, LONGEST_TTL) * 1000))
