"""A write is committed before its answer, or the client hears that it is not."""

import asyncio

from tests.faults.pools.serving import Server

PAIRS, WRITES = 12, 50


async def test_who_writes_and_reads_at_once_finds_the_row(server: Server) -> None:
    """Of 600 rows that take 20 ms to commit, none is missed by a reader that asks when the write is answered."""
    async with server.serving() as served:

        async def missed(first: int) -> int:
            misses = 0
            async with served.asking() as writer, served.asking() as reader:
                for number in range(first, first + WRITES):
                    assert (await writer.post(f"/rows/{number}")).status_code == 201
                    misses += (await reader.get(f"/rows/{number}")).json() is not True
            return misses

        assert sum(await asyncio.gather(*[missed(WRITES * pair) for pair in range(PAIRS)])) == 0
        assert await served.observer.fetchval("SELECT count(*) FROM written") == PAIRS * WRITES


async def test_a_commit_that_fails_is_no_success(server: Server) -> None:
    """Of 20 writes that only the commit can refuse, 20 are answered with an error, and their connections serve on."""
    async with server.serving() as served:
        assert (await served.client.post("/rows/1")).status_code == 201
        sessions = await served.sessions()
        alone = {"Connection": "close"}  # as uvicorn has it after an error that no handler of the app's answers
        statuses = [(await served.client.post("/rows/1", headers=alone)).status_code for _ in range(20)]
        assert statuses == [500] * 20
        assert await served.observer.fetchval("SELECT count(*) FROM written") == 1
        assert [(await served.client.get("/rows/1")).json() for _ in range(20)] == [True] * 20
        await served.until_all_idle()
        assert await served.sessions() == sessions
