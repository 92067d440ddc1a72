"""Load: wrk, which keeps connections open and asks on each as soon as it is answered; and a plain count of answers."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 32
REPORT = Path(__file__).with_name("report.lua")


class CannotMeasure(Exception):
    """Raised when there is nothing to measure with, or an answer is wrong; the message has the cure."""


@dataclass(frozen=True)
class Load:
    """What one round of load has measured."""

    requests_per_second: float
    latency_p50_ms: float
    latency_p99_ms: float


def find_wrk(say: Callable[[str], None]) -> str:
    """
    Find wrk, and install it first where that is ours to do: as root, on a system with apt.

    Raises:
        CannotMeasure: It is not there.
    """
    if shutil.which("wrk") is None and os.geteuid() == 0 and (apt := shutil.which("apt-get")):
        say("served: installing wrk, the load generator, with apt-get")
        if not _run(apt, "install", "--yes", "--no-install-recommends", "wrk"):
            _run(apt, "update")
            _run(apt, "install", "--yes", "--no-install-recommends", "wrk")
    found = shutil.which("wrk")
    if found is None:
        message = (
            "wrk, the load generator, is not installed (Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk)"
        )
        raise CannotMeasure(message)
    return found


def _run(*command: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    ran = subprocess.run(command, env=environment, capture_output=True, check=False)  # noqa: S603 (ours)
    return ran.returncode == 0


def press(wrk: str, url: str, seconds: int) -> Load:
    """
    Ask for `url` on all connections at once, as fast as it is answered.

    Raises:
        CannotMeasure: Not every request was answered 200.
    """
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout=10s", "-s", str(REPORT)]
    ran = subprocess.run(  # noqa: S603 (a command of our own)
        [wrk, *options, url], capture_output=True, text=True, timeout=seconds + 30, check=False
    )
    if ran.returncode:
        message = f"wrk ended with status {ran.returncode}: {ran.stderr.strip()}"
        raise CannotMeasure(message)
    measured: dict[str, int] = json.loads(ran.stdout.splitlines()[-1])
    if measured["failed"] or measured["refused"]:
        message = "of {requests} requests, {refused} were refused and {failed} not answered: ".format(**measured) + url
        raise CannotMeasure(message)
    return Load(
        requests_per_second=measured["requests"] / (measured["microseconds"] / 1e6),
        latency_p50_ms=measured["p50"] / 1e3,
        latency_p99_ms=measured["p99"] / 1e3,
    )


def ask(url: str) -> Any:  # noqa: ANN401 (any JSON)
    """Ask once, on a connection of its own, and give the answer's JSON."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("GET", f"/{path}")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        message = f"{url} answered {response.status}: {body[:200]!r}"
        raise CannotMeasure(message)
    return json.loads(body)


def ask_often(url: str, times: int) -> list[Any]:
    """Ask many times, each on a connection of its own, eight at a time."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, [url] * times))
