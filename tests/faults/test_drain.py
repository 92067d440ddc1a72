"""`drain_delay` under the servers that people run, behind a load balancer: rolling restarts that nobody notices."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.faults.balancer import Balancer
from tests.faults.test_graceful_exit import DEADLINE, Server
from tests.ports import free_port

APP = "tests.faults.drained:app"
SERVERS = {
    "uvicorn": (f"uvicorn {APP} --port {{port}}", 1),
    "uvicorn-workers": (f"uvicorn {APP} --port {{port}} --workers 2", 2),
    "gunicorn": (f"gunicorn -k uvicorn_worker.UvicornWorker -w 2 --bind 127.0.0.1:{{port}} {APP}", 2),
    "gunicorn-asgi": (f"gunicorn -k asgi -w 2 --bind 127.0.0.1:{{port}} {APP}", 2),
    "granian": (f"granian --interface asgi --port {{port}} {APP}", 1),
    "granian-asyncio": (f"granian --interface asgi --loop asyncio --port {{port}} {APP}", 1),
}
RESTARTS = 10
"""How often an instance is replaced, one after the other."""

pytestmark = pytest.mark.timeout(300)  # real processes, on a machine that may be busy


class Instances:
    """Instances of the app, each at a port of its own, and what replaces them."""

    def __init__(self, folder: Path, server: str, delay: float) -> None:
        self._folder, self._delay = folder, delay
        self._command, self.workers = SERVERS[server]
        self._running: dict[int, Server] = {}

    @property
    def urls(self) -> list[str]:
        """Where each of them is."""
        return [f"http://127.0.0.1:{port}" for port in self._running]

    def start(self, port: int, more: str = "", **settings: str) -> Server:
        """Start one at a port."""
        folder = self._folder / f"{port}"
        folder.mkdir(mode=0o700, exist_ok=True)
        settings |= {"DRAIN": f"{self._delay}", "XDG_RUNTIME_DIR": f"{folder}"}
        self._running[port] = started = Server(folder, port, f"{self._command} {more}", self.workers, **settings)
        return started

    async def restart(self, turn: int) -> list[str]:
        """Tell one that it is to end, wait until it has, and start another in its place; give what it said."""
        port = list(self._running)[turn % len(self._running)]
        ending = self._running[port]
        await asyncio.to_thread(ending.until_said, "opened", self.workers)
        ending.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(ending.exits)
        said = [line for lines in ending.said().values() for line in lines]
        self.start(port)
        return said

    def stop(self) -> None:
        """End all of them."""
        for each in self._running.values():
            each.stop()


@pytest.fixture
def ports() -> list[int]:
    """Find two ports that are free."""
    return [free_port(), free_port()]


def answer(port: int, path: str) -> int:
    """Ask one instance, over a connection of its own."""
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE).status_code


async def restarted(instances: Instances, ports: list[int]) -> Balancer:
    """Replace instances one after the other under a steady load, until a request fails, and tell what became of it."""
    for port in ports:
        instances.start(port)
    try:
        async with Balancer(instances.urls).running("/work", senders=4) as balancer:
            for turn in range(RESTARTS):
                assert (await instances.restart(turn)).count("closed") == instances.workers
                await balancer.until(1)
                await balancer.until(2)
                if balancer.failed:
                    break
    finally:
        instances.stop()
    print(f"{turn + 1} restarts: {balancer.answered} answered, {len(balancer.failed)} failed: {balancer.failed}")
    return balancer


@pytest.mark.parametrize("server", ["uvicorn", "uvicorn-workers", "gunicorn"])
async def test_a_rolling_restart_fails_no_request(tmp_path: Path, ports: list[int], server: str) -> None:
    """Behind a balancer that looks at `/readyz`, replacing one instance after the other fails no request."""
    balancer = await restarted(Instances(tmp_path, server, delay=1.5), ports)
    assert balancer.failed == []
    assert balancer.answered > 10 * RESTARTS


@pytest.mark.parametrize("server", ["uvicorn", "uvicorn-workers", "gunicorn"])
async def test_without_a_delay_requests_fail(tmp_path: Path, ports: list[int], server: str) -> None:
    """The same without a delay fails some: the balancer goes on to send to what is gone until it looks again."""
    balancer = await restarted(Instances(tmp_path, server, delay=0), ports)
    assert balancer.failed != []


@pytest.mark.parametrize("server", ["gunicorn-asgi", "granian", "granian-asyncio"])
def test_other_servers_drain_too(tmp_path: Path, port: int, server: str) -> None:
    """Where the event loop handles the signal, requests are answered during the delay, and then the app closes."""
    instances = Instances(tmp_path, server, delay=2)
    try:
        started = instances.start(port).until_ready()
        for _ in range(20):  # granian runs its event loop anew after the start, and we are put before it again
            assert answer(port, "/work") == 200
        started.process.send_signal(signal.SIGTERM)
        started.until(lambda: answer(port, "/readyz") == 503)
        assert answer(port, "/work") == 200
        assert started.exits() == 0
    finally:
        instances.stop()
    assert list(started.said().values()) == [["opened", "closed"]] * instances.workers


def test_a_grace_that_gunicorn_does_not_give_is_told(tmp_path: Path, port: int) -> None:
    """A worker that gunicorn would kill before it has closed warns of that at its start."""
    instances = Instances(tmp_path, "gunicorn", delay=20)
    try:
        started = instances.start(port, "--graceful-timeout 15").until_ready()
        told = "gunicorn kills its workers 15 s after it has told them to end, which is less than drain_delay=20 and"
        started.until(lambda: told in started.log)
    finally:
        instances.stop()


@pytest.mark.parametrize(("server", "status"), [("uvicorn-workers", 0), ("uvicorn", 3)])
def test_a_failed_start_that_uvicorn_hides_is_told(tmp_path: Path, port: int, server: str, status: int) -> None:
    """With several workers uvicorn ends with status 0 although none has started: the log says so, and only then."""
    instances = Instances(tmp_path, server, delay=0)
    try:
        started = instances.start(port, FAILS="yes")
        assert started.exits() == status
    finally:
        instances.stop()
    assert ("uvicorn with several workers ends with status 0" in started.log) == (status == 0)
