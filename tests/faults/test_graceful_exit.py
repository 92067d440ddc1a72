"""Signals to the servers that people run: all that is served comes to its end, every closer runs, the process exits."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
APP = "tests.faults.ending:app"
SERVERS = {
    "uvicorn": (f"uvicorn {APP} --port {{port}}", 1),
    "uvicorn-h11": (f"uvicorn {APP} --port {{port}} --loop asyncio --http h11", 1),
    "uvicorn-workers": (f"uvicorn {APP} --port {{port}} --workers 2", 2),
    "granian": (f"granian --interface asgi --port {{port}} {APP}", 1),
    "granian-workers": (f"granian --interface asgi --port {{port}} --workers 2 {APP}", 2),
    "gunicorn": (f"gunicorn -k uvicorn_worker.UvicornWorker -w 2 --bind 127.0.0.1:{{port}} {APP}", 2),
    "gunicorn-asgi": (f"gunicorn -k asgi --bind 127.0.0.1:{{port}} {APP}", 1),
}
DEADLINE = 30
"""Seconds after which something that ends by itself counts as hanging, on a machine that may be busy."""
CLOSED = ["beat closed", "hanging closed", "below closed"]

pytestmark = pytest.mark.timeout(120)  # real processes, on a machine that may be busy


class Server:
    """A server's main process, what its workers say, and connections to it."""

    def __init__(self, folder: Path, port: int, command: str, workers: int = 1, **settings: str) -> None:
        self._clients = ExitStack()
        self._port = port
        self._workers = workers
        self._output, self._log = folder / "output", folder / "log"
        program, *arguments = command.format(port=port).split()
        with self._output.open("wb") as output, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [PROGRAMS / program, *arguments],
                cwd=ROOT,
                env={**os.environ, "GRACE": "1", **settings},
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What the server and the library wrote."""
        return self._log.read_text()

    def said(self) -> dict[str, list[str]]:
        """Give what each worker has said, in order, by its process."""
        said: dict[str, list[str]] = {}
        for worker, line in re.findall(r"^(\d+) (.+)$", self._output.read_text(), flags=re.MULTILINE):
            said.setdefault(worker, []).append(line)
        return said

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def until_said(self, line: str, times: int = 1) -> None:
        """Wait until workers have said something, each time it is said counted."""
        self.until(lambda: sum(lines.count(line) for lines in self.said().values()) >= times)

    def until_ready(self) -> Self:
        """Wait until all workers have started, and the port is open."""
        self.until_said("opened", self._workers)

        def is_open() -> bool:
            with socket.socket() as probe:
                return not probe.connect_ex(("127.0.0.1", self._port))

        self.until(is_open)
        return self

    def get(self, path: str, *, first: bytes = b"") -> socket.socket:
        """Ask for something, and wait until the answer has come as far as `first`."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE)
        self._clients.enter_context(connection)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
        got = b""
        while first not in got:
            got += connection.recv(1024)
        return connection

    def connect(self, path: str) -> ClientConnection:
        """Open a websocket."""
        return self._clients.enter_context(connect(f"ws://127.0.0.1:{self._port}{path}"))

    def exits(self) -> int:
        """Wait until it has exited, and give its status."""
        return self.process.wait(DEADLINE)

    def stop(self) -> None:
        """End it and its workers, if they are left, and the connections to it."""
        self._clients.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def served(folder: Path, port: int, server: str, *, more: str = "", **settings: str) -> Iterator[Server]:
    """Serve the app until the block ends."""
    command, workers = SERVERS[server]
    running = Server(folder, port, f"{command} {more}", workers, **settings)
    try:
        yield running.until_ready()
    finally:
        running.stop()


def rest_of(connection: socket.socket) -> bytes:
    """Read what else comes, until the server closes the connection."""
    got = b""
    while part := connection.recv(65536):
        got += part
    return got


@pytest.mark.parametrize("server", SERVERS)
def test_all_that_is_served_comes_to_its_end(tmp_path: Path, port: int, server: str) -> None:
    """
    On SIGTERM a stream that is told says goodbye, and a request that ends within the grace is answered.

    A stream that is not told, a handler that waits for a minute and websockets are cut off after it. Every closer runs
    once, in reverse, although one hangs, and the process exits.
    """
    with served(tmp_path, port, server, HANGS="yes") as running:
        told, untold = (running.get(path, first=b"tick") for path in ("/told", "/untold"))
        work, minute = running.get("/work"), running.get("/minute")
        sockets = [running.connect(path) for path in ("/socket", "/pushing")]
        assert [each.recv() for each in sockets] == ["hello", "hello"]
        running.until_said("work began")
        running.until_said("minute began")
        running.process.send_signal(signal.SIGTERM)
        assert b"goodbye" in rest_of(told)
        answer = rest_of(work)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b'"done"')
        assert b"tick" in rest_of(untold)
        assert b"200 OK" not in rest_of(minute)
        for each in sockets:
            with pytest.raises(ConnectionClosed):
                each.recv(timeout=DEADLINE)
        status = running.exits()
    assert status in {0, -signal.SIGTERM}  # uvicorn, once all is closed, ends by the signal that it was sent
    workers = list(running.said().values())
    assert len(workers) == SERVERS[server][1]
    for lines in workers:
        assert [line for line in lines if line.endswith(" closed")] == CLOSED
        assert lines.index("beat told") < lines.index("beat closed")
    assert any("ticks ended" in lines for lines in workers)
    assert "`hanging` did not close within 0.25 s, and was cancelled" in running.log
    assert "cancelled, as the app closes (grace: 1 s)" in running.log


@pytest.mark.parametrize("server", ["uvicorn", "uvicorn-workers", "gunicorn", "granian"])
def test_a_handler_that_swallows_its_cancellation_holds_nothing_up(tmp_path: Path, port: int, server: str) -> None:
    """Its client is answered, the log says where it stands, every closer runs, and the process exits."""
    with served(tmp_path, port, server) as running:
        deaf = running.get("/deaf")
        running.until_said("deaf began")
        running.process.send_signal(signal.SIGTERM)
        assert rest_of(deaf).startswith(b"HTTP/1.1 503")
        running.exits()
    for lines in running.said().values():
        assert [line for line in lines if line.endswith(" closed")] == CLOSED
    left = r"GET /deaf did not end after it was cancelled, and was left behind at tests/faults/ending\.py:\d+"
    assert re.search(left, running.log)


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_a_client_that_does_not_read_holds_nothing_up(tmp_path: Path, port: int, server: str) -> None:
    """A connection whose client takes nothing of what it is sent keeps no closer from running, and no process."""
    with served(tmp_path, port, server) as running:
        running.get("/flood", first=b"200 OK")
        running.process.send_signal(signal.SIGTERM)
        running.exits()
    for lines in running.said().values():
        assert [line for line in lines if line.endswith(" closed")] == CLOSED


def test_granian_kills_what_waits_for_such_a_client_after_every_closer_ran(tmp_path: Path, port: int) -> None:
    """The server itself waits for it, as long as it is told to; the app closes without it before that."""
    more = "--workers-kill-timeout 6"
    with served(tmp_path, port, "granian", more=more) as running:
        running.get("/flood", first=b"200 OK")
        running.process.send_signal(signal.SIGTERM)
        running.until_said("below closed")
        running.exits()
    assert [[line for line in lines if line.endswith(" closed")] for lines in running.said().values()] == [CLOSED]


def test_the_servers_own_limit_goes_on_to_work(tmp_path: Path, port: int) -> None:
    """Requests are cancelled at uvicorn's `--timeout-graceful-shutdown`, where that is less than the grace."""
    with served(tmp_path, port, "uvicorn", more="--timeout-graceful-shutdown 1", GRACE="600") as running:
        running.get("/untold", first=b"tick")
        running.get("/deaf")
        running.until_said("deaf began")
        running.process.send_signal(signal.SIGTERM)
        running.exits()
    (lines,) = running.said().values()
    assert [line for line in lines if line.endswith(" closed")] == CLOSED
    assert "Cancel 2 running task(s), timeout graceful shutdown exceeded" in running.log
    assert "GET /deaf did not end after it was cancelled" in running.log


def test_ctrl_c_ends_it_likewise(tmp_path: Path, port: int) -> None:
    """On SIGINT a stream is cut off after the grace, what swallows that is left behind, every closer runs, it exits."""
    with served(tmp_path, port, "uvicorn") as running:
        untold = running.get("/untold", first=b"tick")
        running.get("/deaf")
        running.until_said("deaf began")
        running.process.send_signal(signal.SIGINT)
        assert b"tick" in rest_of(untold)
        assert running.exits() == 0
    assert [[line for line in lines if line.endswith(" closed")] for lines in running.said().values()] == [CLOSED]


def test_a_second_ctrl_c_is_the_servers_own(tmp_path: Path, port: int) -> None:
    """Ctrl-C begins the shutdown; another one, within the grace, forces the end, as it does without tenure."""
    with served(tmp_path, port, "uvicorn", GRACE="600") as running:
        running.get("/untold", first=b"tick")
        running.process.send_signal(signal.SIGINT)
        running.until_said("beat told")
        running.until(lambda: "Waiting for connections to close" in running.log)
        running.process.send_signal(signal.SIGINT)
        assert running.exits() == 0


def test_reload_does_not_wait_for_a_stream(tmp_path: Path, port: int) -> None:
    """`uvicorn --reload` replaces its process although a stream is open, and the one that is replaced closes all."""
    source = tmp_path / "reloaded.py"
    source.write_text("from tests.faults.ending import app as app\n")
    command = f"uvicorn reloaded:app --app-dir {tmp_path} --port {{port}} --reload --reload-dir {tmp_path}"
    running = Server(tmp_path, port, command, PYTHONPATH=str(ROOT))
    try:
        untold = running.until_ready().get("/untold", first=b"tick")
        source.write_text("from tests.faults.ending import app as app  # changed\n")
        assert b"tick" in rest_of(untold)
        running.until_said("opened", 2)
        running.process.send_signal(signal.SIGTERM)
        running.exits()
    finally:
        running.stop()
    for lines in running.said().values():
        assert [line for line in lines if line.endswith(" closed")] == CLOSED
