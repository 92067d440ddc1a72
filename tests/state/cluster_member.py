"""
A worker with a counter that machines share, which does what it is told, line by line.

`python -m tests.state.cluster_member URL DEPLOYMENT INTERVAL`; which machine it is on, says `XDG_RUNTIME_DIR`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from fastapi import FastAPI

from tenure import Counter, lifespan, running

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "requests"
PROJECT = Path(__file__).parents[2]


class Member:
    """Such a worker, as a process."""

    def __init__(self, machine: Path, url: str, deployment: str, interval: float) -> None:
        machine.mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, "-m", "tests.state.cluster_member", url, deployment, str(interval)]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(machine)}
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def line(self) -> str:
        """Wait for what it says next."""
        return cast("IO[str]", self.process.stdout).readline().strip()

    def started(self) -> Member:
        """Wait until it counts."""
        assert self.line() == "started"
        return self

    def tell(self, order: str) -> None:
        """Give an order."""
        cast("IO[str]", self.process.stdin).write(f"{order}\n")

    def add(self, n: int = 1) -> int:
        """Let it add; what the new value is."""
        self.tell(f"add {n}")
        return int(self.line())

    @property
    def value(self) -> int:
        """What it sees."""
        self.tell("value 0")
        return int(self.line())

    def kill(self) -> list[str]:
        """End it as nobody can expect; what it has said by then, and was not heard."""
        self.process.kill()
        return cast("IO[str]", self.process.stdout).read().splitlines()

    def leave(self) -> None:
        """Let it end in good order."""
        cast("IO[str]", self.process.stdin).close()
        assert self.process.wait(30) == 0

    def end(self) -> None:
        """See to it that it is gone."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            cast("IO[str]", stream).close()


def _add(counter: Counter, n: int) -> int:
    return counter.add(n)


def _value(counter: Counter, _: int) -> int:
    return counter.value


def _rush(counter: Counter, _: int) -> int:
    while True:
        counter.add()
        print("acknowledged", flush=True)


def _fork(_: Counter, __: int) -> int:
    """Leave a child behind that lives until it is killed, a minute at most."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        time.sleep(60)
        os._exit(0)
    return child


ORDERS: dict[str, Callable[[Counter, int], int]] = {"add": _add, "value": _value, "rush": _rush, "fork": _fork}


async def main(url: str, deployment: str, interval: str) -> None:
    """Count, and do what standard input says."""
    counter = Counter(NAME, scope="cluster", interval=float(interval))
    loop = asyncio.get_running_loop()
    async with running(FastAPI(lifespan=lifespan(also=[counter], deployment=deployment, state=url))) as scope:
        counting = await scope.get(counter)
        print("started", flush=True)
        while order := await loop.run_in_executor(None, sys.stdin.readline):
            word, number = order.split()
            print(await asyncio.to_thread(ORDERS[word], counting, int(number)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
