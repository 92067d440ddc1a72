"""What a count of the host costs: an add from the event loop and from any thread, and its value over many processes."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import suppress
from functools import partial
from statistics import median
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.contenders import TENURE
from benchmarks.results import Amount
from benchmarks.startup import child
from tenure import Counter, running

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 0.6
"""How long each is measured, so that what else the machine does for a moment does not matter."""
CALLS = 200
PROCESSES = 256
BARS = {"loop": 150, "loop of 2": None, "thread": 350, "value": 3_000}
TITLES = {
    "loop": "an add to a count of the host, from the event loop",
    "loop of 2": "the same, beside another process that counts",
    "thread": "the same, from any other thread",
    "value": f"its value over {PROCESSES} processes",
}
NOTES = {
    "loop of 2": "an add gives the new value, and so reads what the other process has added",
    "value": "each a living process with a row of its own",
}

requests = Counter("requests", scope="host")


def counted() -> list[Amount]:
    """Measure in a process of its own, whose forked children count with it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:  # noqa: PTH112, S108
        found = child("-m", "benchmarks.counting", folder)
    return [
        Amount("count", TITLES[what], TENURE, round(nanoseconds), "ns", bar=BARS[what], note=NOTES.get(what, ""))
        for what, nanoseconds in zip(TITLES, found, strict=True)
    ]


async def main(folder: str) -> list[float]:
    """Give the nanoseconds of each title."""
    os.environ.update(XDG_RUNTIME_DIR=folder, TENURE_DEPLOYMENT="benchmark")
    async with running(also=[requests]) as scope:
        counter = await scope.get(requests)
        found = [timed(counter.add)]
        with Children(counter, 1):
            found.append(timed(counter.add))
            found.append(in_thread(partial(timed, counter.add)))
        with Children(counter, PROCESSES - 1):
            found.append(timed(lambda: counter.value))
        return found


class Children:
    """Forked processes that have counted, and live as long as the block."""

    def __init__(self, counter: Counter, number: int) -> None:
        self._counter = counter
        self._number = number

    def __enter__(self) -> None:
        self._ready, ready = os.pipe()
        self._until, self._stop = os.pipe()
        self._pids = [self._fork(ready) for _ in range(self._number)]
        for _ in self._pids:
            os.read(self._ready, 1)

    def _fork(self, ready: int) -> int:
        pid = os.fork()
        if pid == 0:
            os.close(self._stop)
            with suppress(BaseException):
                self._counter.add()
                os.write(ready, b".")
                os.read(self._until, 1)  # ends when the parent closes its side
            os._exit(0)
        return pid

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)
        for pid in self._pids:
            os.waitpid(pid, 0)


def timed(function: Callable[[], object]) -> float:
    """Give the nanoseconds of a call."""
    rounds: list[float] = []
    end = perf_counter() + SECONDS
    while (begin := perf_counter()) < end:
        for _ in range(CALLS):
            function()
        rounds.append((perf_counter() - begin) / CALLS * 1e9)
    return median(rounds)


def in_thread(function: Callable[[], float]) -> float:
    """Call it in another thread."""
    found: list[float] = []
    thread = Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, asyncio.run(main(sys.argv[1])))))
