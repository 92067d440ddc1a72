"""
A process that uses shared state in Valkey, and does one thing with it.

`python -m tests.state.valkey_client ACTION URL ...`, where the action is a function of this module.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from tenure.errors import StateUnavailable
from tenure.state.stores.valkey import ValkeyEngine


async def count(engine: ValkeyEngine, times: str) -> None:
    """Add one again and again; say what came of it each time."""
    for _ in range(int(times)):
        print(await engine.increment("count", 1, ttl=600))


async def count_on(engine: ValkeyEngine) -> None:
    """Add one until the end, whatever fails; say before each attempt, and after each that succeeded."""
    while True:
        print("sent", flush=True)
        with suppress(StateUnavailable):
            await engine.increment("count", 1, ttl=None)
            print("acknowledged", flush=True)


async def take_turns(engine: ValkeyEngine, place: str, holder: str, rounds: str) -> None:
    """Take the lock in each round, meet nobody who has it too, and write down the token."""
    for turn in range(int(rounds)):
        token = None
        while token is None:
            token = await engine.acquire("turns", holder=f"{holder}-{turn}", lease=30)
            await asyncio.sleep(0)
        await asyncio.to_thread(write_down, Path(place), token)
        await engine.release("turns", holder=f"{holder}-{turn}")


def write_down(place: Path, token: int) -> None:
    """Add to a file while nobody else may."""
    alone = place / "alone"
    alone.touch(exist_ok=False)
    with (place / "tokens").open("a") as tokens:
        tokens.write(f"{token}\n")
    alone.unlink()


async def hold(engine: ValkeyEngine, lease: str) -> None:
    """Take the lock, say its token, and ask for more time when told to."""
    print(await engine.acquire("held", holder="first", lease=float(lease)), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(await engine.renew("held", holder="first", lease=float(lease)), flush=True)


async def main(action: str, url: str, *arguments: str) -> None:
    """Do what the command line says."""
    async with ValkeyEngine(url, deployment="test", deadline=1 if action == "count_on" else 20) as engine:
        await globals()[action](engine, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
