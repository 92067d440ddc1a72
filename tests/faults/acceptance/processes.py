"""Processes that add to a count without any server: from threads, or until they are killed."""

from __future__ import annotations

import asyncio
import os
import time
from threading import Thread
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from tenure import Counter, lifespan, running
from tests.state.sharers import processes

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tenure.lifespan import Scope

BURST, PAUSE = 200, 0.003
"""How often a process adds until it lets others run, and for how many seconds."""

by_app = Counter("adds", scope="app")
by_host = Counter("adds", scope="host")


def started(counter: Counter) -> AbstractAsyncContextManager[Scope]:
    """Run an app that counts."""
    return running(FastAPI(lifespan=lifespan(also=[counter], deployment="acceptance")))


def add_in_threads(counter: Counter, threads: int, each: int) -> None:
    """Add from so many threads at once."""

    def add() -> None:
        for _ in range(each):
            counter.add()

    adding = [Thread(target=add) for _ in range(threads)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()


class Process:
    """
    A process of its own that shares the count of a machine.

    Attributes:
        process: It.
    """

    def __init__(self, machine: Path, work: Any, *arguments: Any) -> None:
        self.process = processes.Process(target=_run, args=(machine, work, *arguments), daemon=True)
        self.process.start()

    def kill(self) -> None:
        """End it as nobody can expect."""
        self.process.kill()
        self.process.join()


def _run(machine: Path, work: Any, *arguments: Any) -> None:
    os.environ["XDG_RUNTIME_DIR"] = str(machine)
    asyncio.run(work(*arguments))


async def add_together(threads: int, each: int, together: Any, values: Any) -> None:
    """Add from threads when all processes are ready, and tell what the count is when all have done so."""
    async with started(by_host) as scope:
        counter = await scope.get(by_host)
        for work in (lambda: None, lambda: add_in_threads(counter, threads, each)):
            await asyncio.to_thread(work)
            await asyncio.to_thread(together.wait)
        values.put(counter.value)
        await asyncio.to_thread(together.wait)


async def add_until_killed(number: int, sent: Any, acknowledged: Any) -> None:
    """Add, in the event loop or in a thread, and write down in memory of all how often: before each add, and after."""
    async with started(by_host) as scope:
        counter = await scope.get(by_host)

        def rush() -> None:
            while True:
                for _ in range(BURST):
                    sent[number] += 1
                    counter.add()
                    acknowledged[number] += 1
                time.sleep(PAUSE)

        if number % 2:
            await asyncio.to_thread(rush)
        rush()
