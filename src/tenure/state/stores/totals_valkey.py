"""
The totals of all hosts in Valkey or Redis: one hash for a deployment, changed by one script.

A hash, and no key for each counter, so that what is kept together is lost together: then each host's next publish
brings all of it back. Its fields are, for each counter, the totals of all, ``+name`` and ``-name``, and for each
replica what it has published.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

from tenure.errors import StateUnavailable
from tenure.state.stores.totals import Standing, Totals
from tenure.state.stores.valkey import DEADLINE, Script
from tenure.state.stores.wire import Line, NotInCharge, OutOfMemory, Refused, Server, Unanswered, UnknownScript

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenure.state.stores.wire import Word

EXCHANGE: Final = Script("""
local function is_more(a, b)
  return #a > #b or (#a == #b and a > b)
end
local packed = redis.call('HGET', KEYS[1], ARGV[1])
local published = packed and cmsgpack.unpack(packed) or {}
local answer, failure = {}, nil
for i = 2, #ARGV, 3 do
  local name = ARGV[i]
  local own = published[name] or {'0', '0'}
  published[name] = own
  for j, sign in ipairs({'+', '-'}) do
    local total, new = sign .. name, ARGV[i + j]
    if is_more(new, own[j]) then
      local raised = redis.pcall('HINCRBY', KEYS[1], total, new)
      if type(raised) == 'table' then
        failure = raised
      else
        if own[j] ~= '0' then redis.call('HINCRBY', KEYS[1], total, '-' .. own[j]) end
        own[j] = new
      end
    end
    table.insert(answer, redis.call('HGET', KEYS[1], total) or '0')
    table.insert(answer, own[j])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(published))
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
return failure or answer
""")
"""Numbers stay digits throughout: Lua's own are exact to 53 bits only."""

FORGET: Final = Script("""
local before = redis.call('TIME')[1] - ARGV[1]
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', before), 'LIMIT', 0, 1000)
for _, replica in ipairs(silent) do
  redis.call('HDEL', KEYS[1], replica)
  redis.call('ZREM', KEYS[2], replica)
end
return #silent
""")


class ValkeyLedger:
    """
    Keeps the totals of all hosts in Valkey or Redis, over one connection that comes back by itself.

    Args:
        url: The server's address, as `ValkeyEngine` takes it.
        deployment: Stands before the keys.
        deadline: Seconds after which a call is given up.

    Raises:
        DeclarationError: That is no such address.
    """

    def __init__(self, url: str, *, deployment: str, deadline: float = DEADLINE) -> None:
        self._server = Server(url, deadline)
        self._line = Line(self._server, deadline)
        self._deadline = deadline
        self._keys = f"tenure:{deployment}:counters", f"tenure:{deployment}:replicas"

    async def exchange(self, replica: str, totals: Mapping[str, Totals]) -> dict[str, Standing]:
        """Raise a replica's totals to these where they are larger, and give what is kept then."""
        words: list[Word] = [replica]
        for name, (added, removed) in totals.items():
            words += [name.encode(errors="surrogatepass"), added, removed]
        kept: list[bytes] = await self._run(EXCHANGE, *words)
        numbers = map(int, kept)
        standings: dict[str, Standing] = {}
        for name in totals:
            added, own_added, removed, own_removed = (next(numbers) for _ in range(4))
            standings[name] = Standing(Totals(added, removed), Totals(own_added, own_removed))
        return standings

    async def forget(self, kept: float) -> None:
        """Forget the replicas that have not published for so many seconds."""
        await self._run(FORGET, math.ceil(kept))

    async def close(self) -> None:
        """End the connection."""
        await self._line.close()

    async def _run(self, script: Script, *arguments: Word) -> Any:  # noqa: ANN401 (what the script returns)
        until = asyncio.get_running_loop().time() + self._deadline
        keys = len(self._keys), *self._keys
        try:
            try:
                return await self._line.ask("EVALSHA", script.digest, *keys, *arguments, until=until)
            except UnknownScript:
                return await self._line.ask("EVAL", script.text, *keys, *arguments, until=until)
        except NotInCharge as error:
            self._line.renew()
            raise self._unavailable(error) from error
        except (Unanswered, Refused) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StateUnavailable:
        message = f"the Valkey at {self._server.name} keeps no totals of counters now: {error}"
        if isinstance(error, OutOfMemory):
            return StateUnavailable(message, hint="let it keep more: its setting `maxmemory`")
        return StateUnavailable(message, hint="see that it runs; each machine counts on, and publishes when it is back")
