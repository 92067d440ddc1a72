"""A worker with its part of a budget: `python -m tests.pools.budgeted DSN MAX_CONNECTIONS WORKERS`."""

import asyncio
import sys

from tenure import running
from tenure.errors import StartFailed
from tenure.pools import budget
from tenure.pools.asyncpg import pool

budget.PATIENCE = 0.5


async def main(dsn: str, connections: str, workers: str) -> None:
    """Open the pool, say how large it is, and close it when standard input ends."""
    database = pool(dsn, max_connections=int(connections), workers=int(workers), name="database")
    try:
        async with running(also=[database]) as scope:
            print((await scope.get(database)).stats.size, flush=True)
            await asyncio.to_thread(sys.stdin.read)
    except StartFailed as refused:
        print(str(refused).partition("\n")[0], flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
