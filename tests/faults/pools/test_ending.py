"""What ends in the middle: an app on SIGTERM, and clients that leave."""

import asyncio
import re

from tests.faults.pools.serving import DEADLINE, Server, until
from tests.faults.pools.settings import SIZE

CLIENTS = 60
GRACE = 1
"""Seconds that the app gives its requests."""


async def test_sigterm_ends_all_that_borrows_and_every_closer_runs(server: Server) -> None:
    """
    A stream, a handler that waits for a minute, one that holds and a connection never given back hold nothing up.

    What was not given back is named with the line that borrowed it, each closer runs once, and no connection is left.
    """
    async with server.serving() as served:
        sent = [await served.sends(f"GET {path}") for path in ("/stream", "/upstream", "/hold/one")]
        assert (await served.client.get("/leak")).is_success
        await served.until_under_way(streams=1, handlers=1, holders=1)
        took = await served.exits()
        print(f"{server.kind}: it has exited {took:.2f} s after SIGTERM, with a grace of {GRACE} s")
        assert took < DEADLINE / 2
        answers = [await reader.read() for reader, _ in sent]
        assert answers[0].startswith(b"HTTP/1.1 200")
        assert not any(answer.startswith(b"HTTP/1.1 200") for answer in answers[1:])
        assert (len(served.said("above closed")), len(served.said("below closed"))) == (1, 1)
        leak = re.findall(r"a connection of pool database is out .*\n(?:  .*\n)*  (\S+):\d+ in leak\n", served.log)
        assert leak == ["tests/faults/pools/app.py"]

        async def are_gone() -> bool:
            return not await served.sessions()

        await until(are_gone)


async def test_what_clients_held_is_free_when_they_have_left(server: Server) -> None:
    """Of 60 clients that left a pool of 5, none holds a connection or a place, and it cost none: 20 are answered."""
    async with server.serving(acquire_timeout=600, command_timeout=600) as served:
        sessions = await served.sessions()
        clients = [await served.sends("GET /impatient/600") for _ in range(CLIENTS)]
        await served.until_under_way(impatient=CLIENTS)

        async def all_are_busy() -> bool:
            return len(await served.sessions("active")) == SIZE

        await until(all_are_busy)
        for _, writer in clients:
            writer.transport.abort()

        async def is_answered() -> bool:
            return (await served.client.get("/echo/1")).is_success

        waited, _ = await asyncio.gather(until(is_answered), served.until_all_idle())
        print(f"{server.kind}: a request that came when 60 had left was answered after {waited:.3f} s")
        await served.until_under_way(impatient=0)
        assert (await served.ready())["waiting"] == 0
        assert [(await served.client.get(f"/echo/{number}")).json()["number"] for number in range(20)] == [*range(20)]
        assert await served.sessions() == sessions
