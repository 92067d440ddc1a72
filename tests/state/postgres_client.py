"""
A process that uses shared state in PostgreSQL, and does one thing with it.

`python -m tests.state.postgres_client ACTION DSN ...`, where the action is a function named here.
"""

from __future__ import annotations

import asyncio
import sys

from tenure.state.stores.postgres import PostgresEngine
from tests.state.valkey_client import count, hold, take_turns

ACTIONS = {"count": count, "hold": hold, "take_turns": take_turns}


async def main(action: str, dsn: str, *arguments: str) -> None:
    """Do what the command line says."""
    async with PostgresEngine(dsn, deployment="test", deadline=20) as engine:
        await ACTIONS[action](engine, *arguments)  # type: ignore[operator]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
