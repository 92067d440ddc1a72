"""The servers that are compared: real processes on loopback, ended with their block, and the memory of all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from benchmarks.machine import PROJECT
from benchmarks.models import results
from benchmarks.models.load import Asking
from benchmarks.models.minilm import FREEZE, SCOPE, THREADS, texts
from benchmarks.served.load import CannotMeasure
from benchmarks.served.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

DEADLINE = 60
"""Seconds that a start may take."""
PATIENCE = 10
"""Seconds that an end may take, before what is left is killed: LitServe leaves some."""
BENTOML = PROJECT / ".venv-bench-bentoml" / "bin" / "python"
MARK = "BENCHMARK_RUN"
APPS = "benchmarks.models.apps"

PING = Asking("GET", "/ping", ("/ping",))


@dataclass(frozen=True)
class Server:
    """
    A program that is compared.

    Attributes:
        id: The word for it.
        name: What tables call it.
        command: Gives the command that serves it at a port.
        workers: How many processes answer HTTP.
        settings: What is set in its environment.
        asking: How it is searched.
        answer: Gives the nearest of what it has answered.
        pinging: How it is asked for what has to do with no model.
    """

    id: str
    name: str
    command: Callable[[int], list[str]]
    asking: Asking
    workers: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    answer: Callable[[Any], Any] = field(default=lambda found: found)
    pinging: Asking = PING

    @contextmanager
    def serve(self, folder: Path) -> Generator[Running]:
        """
        Serve it for a block.

        Raises:
            CannotMeasure: It did not start; the message has what it said.
        """
        port, log = free_port(), folder / f"{self.id}.log"
        mark = f"{self.id}-{port}"
        # The folder is this run's own: no process that another run has left behind is joined.
        settings = {**THREADS, "XDG_RUNTIME_DIR": str(folder), MARK: mark, **self.settings}
        with log.open("wb") as said:
            process = subprocess.Popen(  # noqa: S603 (a command of our own)
                self.command(port), cwd=PROJECT, env={**os.environ, **settings}, stdout=said, stderr=said
            )
        running = Running(self, process, f"http://127.0.0.1:{port}", mark)
        try:
            running.wait(log)
            yield running
        finally:
            running.end()


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    server: Server
    process: subprocess.Popen[bytes]
    url: str
    mark: str

    def wait(self, log: Path) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + DEADLINE
        last: OSError | None = None
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.search(0)
            except OSError as error:
                last = error
                time.sleep(0.05)
            else:
                return
        message = f"{self.server.name} did not start, {last!r}:\n{log.read_text()}"
        raise CannotMeasure(message)

    def search(self, number: int) -> Any:  # noqa: ANN401 (any JSON)
        """Search for one of the texts, on a connection of its own."""
        asking = self.server.asking
        line = asking.lines[number]
        is_get = asking.method == "GET"
        request = urllib.request.Request(  # noqa: S310 (on loopback)
            self.url + (line if is_get else asking.path),
            data=None if is_get else line.encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 (likewise)
            return self.server.answer(json.load(response))

    def processes(self) -> list[int]:
        """Give all that it consists of: what it has started has its environment, whoever its parent is by now."""
        mark = f"{MARK}={self.mark}".encode()
        return [
            int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit() and mark in _environment(each)
        ]

    def memory(self) -> float:
        """Give the megabytes that all of its processes take, where what several share counts once."""
        found = (Path("/proc", str(each), "smaps_rollup").read_text() for each in self.processes())
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in found) * 1024 / 1e6

    def end(self) -> None:
        """End it, with all that it has started."""
        deadline = time.monotonic() + PATIENCE
        self.process.send_signal(signal.SIGINT)
        while self.process.poll() is None or self.processes():
            if time.monotonic() > deadline:
                for each in self.processes():
                    with suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
            time.sleep(0.05)


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is another user's
        return []


def _uvicorn(app: str, workers: int = 1) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        options = [f"--port={port}", f"--workers={workers}", "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", f"{APPS}.{app}:app", *options]

    return command


def _litserve(port: int) -> list[str]:
    return [sys.executable, "-m", f"{APPS}.with_litserve", str(port)]


def _bentoml(port: int) -> list[str]:
    return [str(BENTOML), "-m", "bentoml", "serve", f"{APPS}.with_bentoml:Search", "--quiet", f"--port={port}"]


BY_PATH = Asking("GET", "/search", tuple(f"/search?{urlencode({'q': text})}" for text in texts()))


def _by_body(made: Callable[[str], Any]) -> Asking:
    return Asking("POST", "/search", tuple(json.dumps({"q": made(text)}) for text in texts()))


def with_tenure(scope: str, workers: int = 1, *, frozen: bool = False) -> Server:
    """Give tenure's, with the model at a scope."""
    return Server(
        f"tenure-{scope}-{workers}" + ("-frozen" if frozen else ""),
        f"tenure, `{scope}` scope" + (f", {workers} workers" if workers > 1 else "") + (", frozen" if frozen else ""),
        _uvicorn("with_tenure", workers),
        BY_PATH,
        workers,
        {SCOPE: scope, **({FREEZE: "1"} if frozen else {})},
    )


DIRECT = Server("direct", results.DIRECT, _uvicorn("direct"), BY_PATH)
POOLED = Server("pooled", results.POOLED, _uvicorn("pooled"), BY_PATH)
LITSERVE = Server("litserve", "LitServe", _litserve, _by_body(str))
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false"}
BENTO = Server(
    "bentoml",
    "BentoML",
    _bentoml,
    _by_body(lambda text: [text]),
    settings=QUIET,
    answer=lambda found: found[0],
    pinging=Asking("POST", "/ping", ("{}",)),
)
OURS = (with_tenure("app"), with_tenure("app", frozen=True), with_tenure("host"), with_tenure("host", 2))
ALL = (DIRECT, POOLED, LITSERVE, BENTO, *OURS)
