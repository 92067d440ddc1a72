"""Load, by wrk: callers that ask again as soon as they are answered, and some who ask for something else meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.served.load import CannotMeasure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.models.servers import Running

SCRIPT = Path(__file__).with_name("ask.lua")
PINGS, PING_EVERY = 5, 0.25
"""Connections on which `/ping` is asked, and seconds between two on each: 20 in a second."""


@dataclass(frozen=True)
class Times:
    """
    What was answered, and how long each answer took.

    Attributes:
        requests: How many were.
        seconds: In what time.
        counts: How often an answer took so many microseconds.
    """

    requests: int
    seconds: float
    counts: tuple[tuple[int, int], ...]

    @property
    def per_second(self) -> float:
        """Requests in a second."""
        return self.requests / self.seconds


def percentile(rounds: Sequence[Times], part: float) -> float:
    """Give the milliseconds within which such a part of all answers was there, over all rounds."""
    counts = sorted(count for each in rounds for count in each.counts)
    left = part * sum(times for _, times in counts)
    for microseconds, times in counts:
        left -= times
        if left <= 0:
            return microseconds / 1000
    return counts[-1][0] / 1000


@dataclass(frozen=True)
class Asking:
    """
    How a program is asked.

    Attributes:
        method: GET, or POST.
        path: Of the route.
        lines: What is asked in turn: paths, or bodies.
    """

    method: str
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Wrk:
    """
    The load generator.

    Attributes:
        program: Its path.
        folder: Where it finds what to ask.
    """

    program: str
    folder: Path

    def press(self, running: Running, callers: int, seconds: int) -> tuple[Times, Times]:
        """
        Ask with so many callers, and for something else beside it; give the times of both.

        Raises:
            CannotMeasure: Not every request was answered 200.
        """
        server, url = running.server, running.url
        with (
            self._started(url, server.pinging, PINGS, seconds, pause=PING_EVERY) as pings,
            self._started(url, server.asking, callers, seconds) as asked,
        ):
            return _times(asked, url + server.asking.path), _times(pings, url + server.pinging.path)

    def _started(
        self, url: str, asking: Asking, callers: int, seconds: int, *, pause: float | None = None
    ) -> subprocess.Popen[str]:
        lines = self.folder / f"{asking.path.strip('/')}-{asking.method}.txt"
        lines.write_text("".join(f"{line}\n" for line in asking.lines))
        options = ["-t1", f"-c{callers}", f"-d{seconds}s", "--timeout=20s", "-s", str(SCRIPT)]
        return subprocess.Popen(  # noqa: S603 (a command of our own)
            [self.program, *options, url + asking.path, "--", asking.method, str(lines)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **({} if pause is None else {"PAUSE": str(int(pause * 1000))})},
        )


def _times(process: subprocess.Popen[str], url: str) -> Times:
    said, errors = process.communicate(timeout=120)
    if process.returncode:
        message = f"wrk ended with status {process.returncode}: {errors.strip()}"
        raise CannotMeasure(message)
    measured: dict[str, Any] = json.loads(said.splitlines()[-1])
    if measured["failed"] or measured["refused"]:
        message = "of {requests} requests, {refused} were refused and {failed} not answered: ".format(**measured) + url
        raise CannotMeasure(message)
    counts = tuple((microseconds, times) for microseconds, times in measured["times"])
    return Times(measured["requests"], measured["microseconds"] / 1e6, counts)
