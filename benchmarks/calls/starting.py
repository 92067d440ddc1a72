"""From the death of an object's process to the first answer of the next one, and where that time goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.results import Amount
from tenure import running, scoped
from tenure.remote import OwnerDied

if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 1000
"""Milliseconds."""
STEPS = (
    "its process is started",
    "Python runs, and its module is imported",
    "the object is made",
    "it answers",
)
LOADED = time.clock_gettime(time.CLOCK_BOOTTIME)


class Trivial:
    """An object of which only its process takes time."""

    def __init__(self) -> None:
        self._made = time.clock_gettime(time.CLOCK_BOOTTIME)

    async def times(self) -> tuple[int, float, float, float]:
        """Tell the process, and when it was started, this module was imported, and this object was made."""
        fields = open("/proc/self/stat").read().rpartition(")")[2].split()  # noqa: ASYNC230, PTH123, SIM115 (it is memory)
        return os.getpid(), int(fields[19]) / os.sysconf("SC_CLK_TCK"), LOADED, self._made


trivial = scoped("host")(Trivial)


async def once() -> list[float]:
    """Kill the process, and give the milliseconds of each step until it answers again."""
    async with running(also=[trivial]) as scope:
        handle = await scope.get(trivial)
        process, *_ = await handle(Trivial.times)
        killed = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.kill(process, signal.SIGKILL)
        while True:
            with suppress(OwnerDied):
                new, *moments = await handle(Trivial.times)
                if new != process:
                    break
        moments.append(time.clock_gettime(time.CLOCK_BOOTTIME))
    return [(after - before) * 1000 for before, after in zip([killed, *moments], moments, strict=False)]


def measure(advance: Callable[[str], object], times: int) -> list[Amount]:
    """
    Measure so often, each in a deployment of its own, for the next start of a process that dies again waits longer.

    Raises:
        CalledProcessError: It has failed; why is on the standard error.
    """
    rounds: list[list[float]] = []
    for number in range(times + 1):
        advance(f"kill -9 of an object's process, round {number + 1} of {times + 1}")
        steps = _apart()
        if number:  # the first may compile what the others load
            rounds.append(steps)
    wholes = sorted(sum(steps) for steps in rounds)
    spread = f"{wholes[0]:.0f} to {wholes[-1]:.0f} in {times} deaths"
    return [
        Amount(
            "recovery",
            "from kill -9 of an object's process to the first answer of the next",
            "tenure",
            round(median(wholes), 1),
            "ms",
            bar=BAR,
            note=spread,
        ),
        *(
            Amount(f"recovery-{number}", title, "tenure", round(median(steps), 1), "ms")
            for number, (title, steps) in enumerate(zip(STEPS, zip(*rounds, strict=True), strict=True))
        ),
    ]


def _apart() -> list[float]:
    # From bytecode, as installed packages are.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"XDG_RUNTIME_DIR": folder, "TENURE_DEPLOYMENT": "benchmark"}
        command = [sys.executable, "-c", f"import {__name__} as it; it.main()"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment | settings).stdout  # noqa: S603
    steps: list[float] = json.loads(said)
    return steps


def main() -> None:
    """Measure once; the module is imported by its name, by which the other process finds the class."""
    sys.stdout.write(json.dumps(asyncio.run(once())))
