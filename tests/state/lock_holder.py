"""
A process that holds a lock which machines share, and writes to a table of PostgreSQL under its token.

`python -m tests.state.lock_holder URL DSN`: where the lock is kept, and where the table is. It says its token when it
has the lock, then writes when it is told to; and says how its block ends.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg
from fastapi import FastAPI

from tenure import Lock, lifespan, running
from tenure.errors import LockLost

report = Lock("report", scope="cluster", lease=2)

TABLE = """
DROP TABLE IF EXISTS report;
CREATE TABLE report (body text NOT NULL, token bigint NOT NULL);
INSERT INTO report VALUES ('', 0);
"""
SAVE = "UPDATE report SET body = $1, token = $2 WHERE token <= $2"


async def work(lock: Lock, table: asyncpg.Connection[asyncpg.Record]) -> None:
    """Hold the lock; write at each line of standard input, and once more when the block is cancelled."""
    loop = asyncio.get_running_loop()
    async with lock.hold(timeout=30) as held:
        print(held.token, flush=True)
        try:
            while body := await loop.run_in_executor(None, sys.stdin.readline):
                print(await table.execute(SAVE, body.strip(), held.token), flush=True)
        except asyncio.CancelledError:
            print("cancelled", held.lost, flush=True)
            print(await table.execute(SAVE, "late", held.token), flush=True)
            raise


async def main(url: str, dsn: str) -> None:
    """Work, and say what became of it."""
    table = await asyncpg.connect(dsn)
    async with running(FastAPI(lifespan=lifespan(also=[report], deployment="test", state=url))) as scope:
        try:
            await work(await scope.get(report), table)
            print("held", flush=True)
        except LockLost:
            print("LockLost", flush=True)
    await table.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
