"""What is served over a pool of five: whatever has borrowed and waits holds nothing; whatever holds is known."""

import asyncio
import json
import re
import time

import pytest

from tests.faults.pools.serving import Server
from tests.faults.pools.settings import SIZE

STREAMS, TASKS, SOCKETS, HANDLERS = 200, 20, 50, 50
HOLDER = r"out for [\d.]+ s: GET {}, borrowed at tests/faults/pools/\w+\.py:\d+"
"""What the log says of each who holds a connection."""


@pytest.mark.timeout(120)  # 320 connections to a real server, on a machine that may be busy
async def test_what_waits_for_something_else_holds_no_connection(server: Server) -> None:
    """
    Under 200 streams, 20 background tasks, 50 websockets and 50 handlers that have all borrowed, all 5 are idle.

    A query is answered, and so is a stream that queries for each chunk; what goes on then can borrow again.
    """
    async with server.serving() as served:
        streams = [await served.sends("GET /stream") for _ in range(STREAMS)]
        for _ in range(TASKS):
            assert (await served.client.post("/background")).is_success
        sockets = [await served.connects("/socket") for _ in range(SOCKETS)]
        for number, socket in enumerate(sockets):
            await socket.send(str(number))
            assert json.loads(await socket.recv()) == number
        handlers = [asyncio.create_task(served.client.get("/upstream")) for _ in range(HANDLERS)]
        await served.until_under_way(streams=STREAMS, background_tasks=TASKS, websockets=SOCKETS, handlers=HANDLERS)
        assert len(await served.sessions("idle")) == len(await served.sessions()) == SIZE
        assert (await served.ready())["in_use"] == 0
        took = []
        for number in range(50):
            begin = time.perf_counter()
            assert (await served.client.get(f"/echo/{number}")).json()["number"] == number
            took.append(time.perf_counter() - begin)
        print(f"{server.kind}: a query is answered in {sorted(took)[25]:.4f} s, at most {max(took):.4f} s")
        chunks = re.findall(r"data: (\d+)", (await served.client.get("/querying")).text)
        assert chunks == [str(number) for number in range(20)]
        await socket.send("7")
        assert json.loads(await socket.recv()) == 7
        assert (await served.client.post("/go-on")).is_success
        assert [(await handler).json() for handler in handlers] == [1] * HANDLERS
        await served.until_under_way(streams=STREAMS, background_tasks=0, handlers=0)
        for reader, _ in streams:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await served.until_all_idle()


async def test_a_pool_that_is_exhausted_refuses_in_time_and_says_who_holds_it(server: Server) -> None:
    """Clients have a 503 with when to come again, the log the holders; readiness is told without a connection."""
    async with server.serving(acquire_timeout=1) as served:
        held = [asyncio.create_task(served.client.get(f"/hold/{number}")) for number in range(SIZE)]
        await served.until_under_way(holders=SIZE)
        waiting = [asyncio.create_task(served.client.get("/echo/1")) for _ in range(20)]
        begin = time.perf_counter()
        ready = await served.ready()
        print(f"{server.kind}: readiness is told in {time.perf_counter() - begin:.4f} s by an exhausted pool")
        assert (ready["in_use"], ready["size"]) == (SIZE, SIZE)
        answers = [await each for each in waiting]
        print(f"{server.kind}: 20 were refused within {time.perf_counter() - begin:.2f} s of the 1 s that they wait")
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert (await served.ready())["refused"] == 20
        assert len(await served.sessions("idle in transaction")) == SIZE
        assert (await served.client.post("/go-on")).is_success
        assert [(await each).status_code for each in held] == [200] * SIZE
        assert (await served.client.get("/echo/1")).is_success
        await served.until_all_idle()
        log = served.log
    assert "no connection of pool `database` was free within 1 s: all 5 are out" in log
    assert len(re.findall(HOLDER.format(r"/hold/\{name\}"), log)) >= SIZE


async def test_five_that_each_hold_one_and_want_another_do_not_deadlock(server: Server) -> None:
    """Five times five: all are answered, some with 503 at once, and nothing is left out."""
    async with server.serving(acquire_timeout=600) as served:
        for _ in range(5):
            answers = await asyncio.gather(*[served.client.get("/nested") for _ in range(SIZE)])
            statuses = sorted(answer.status_code for answer in answers)
            assert statuses == [200] * (SIZE - 1) + [503]
            assert all(answer.json() is True for answer in answers if answer.is_success)
        await served.until_all_idle()
        log = served.log
    assert "a second connection of pool `database` was asked for while the first is held" in log
    assert len(re.findall(HOLDER.format("/nested"), log)) >= SIZE
