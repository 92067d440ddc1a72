"""An object in a Ray cluster, called from two machines, while its process, a machine's workers or callers go away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tenure import running
from tests.faults.processes import gone, until
from tests.faults.serving import PATIENCE, connected
from tests.ports import free_port
from tests.remote import promises, ray_cluster
from tests.remote.far import app, far
from tests.remote.things import Thing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(150)  # on a busy machine a cluster takes half a minute to start


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """Run Ray, and give the folder in which its actors leave notes."""
    with ray_cluster.cluster() as folder:
        yield folder


@pytest.fixture
def place(cluster: Path) -> Path:
    """Give the folder, without the notes of other tests."""
    return ray_cluster.without_notes(cluster)


@contextmanager
def machine(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the app by a server that is a driver of its own, as on another machine; stop it if it is still there."""
    command = [sys.executable, "-m", "uvicorn", "tests.remote.far:app", "--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=ray_cluster.PROJECT)
    try:
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)


@contextmanager
def driven(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script that is a driver, which the block kills."""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ray_cluster.PROJECT, stdout=subprocess.PIPE) as driver:
        yield driver


@pytest.fixture
def ports() -> tuple[int, int]:
    """Give two ports that are free."""
    return free_port(), free_port()


async def test_two_machines_meet_in_one_object_and_it_outlives_either(place: Path, ports: tuple[int, int]) -> None:
    """Both count on; one is killed with a call under way, the other goes on; both ended, the object is there."""
    with machine(ports[0]) as first, machine(ports[1]) as second:
        async with connected(ports[0], "/count") as one, connected(ports[1], "/count") as two:
            workers = [(await client.get("/processes")).json() for client in (one, two)]
            assert {worker for worker, _ in workers} == {first.pid, second.pid}
            [owner] = {owner for _, owner in workers}
            counted = [(await client.get("/count")).json() for client in (one, two, one, two)]
            assert counted == list(range(counted[0], counted[0] + 4))

            held = asyncio.create_task(one.get("/hold?name=kept"))
            await until((place / "began").exists)
            first.kill()
            with pytest.raises(httpx.TransportError):
                await held
            (place / "kept").touch()

            assert (await two.get("/count")).json() == counted[-1] + 1
            assert (await two.get("/processes")).json() == [second.pid, owner]
    assert not gone(owner)
    async with running(app) as scope:
        handle = await scope.get(far)
        assert await handle(Thing.process) == owner
        assert await handle(Thing.count) == counted[-1] + 2


async def test_calls_under_way_hear_of_the_death_and_the_next_is_answered(place: Path) -> None:
    """An idempotent call under way is answered by the new object, any other raises `OwnerDied`, and the next waits."""
    async with running(app) as scope:
        handle = await scope.get(far)
        await promises.calls_under_way_hear_of_a_death(handle, place)


async def test_a_server_told_to_end_ends_what_it_serves(
    place: Path, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM reaches the server and not Ray: the request under way is answered, and it ends as if nothing was."""
    with machine(port) as server:
        async with connected(port, "/count") as client:
            held = asyncio.create_task(client.get("/hold?name=last"))
            await until((place / "began").exists)
            server.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            (place / "last").touch()
            assert (await held).status_code == 200
    assert server.returncode in {0, -signal.SIGTERM}  # some versions of uvicorn end by the signal itself
    assert "SIGTERM" not in capfd.readouterr().err


async def test_a_stream_ends_with_its_caller(place: Path) -> None:
    """A driver that is killed while it takes a stream tells nobody; the generator ends all the same."""
    script = """
import asyncio
from tenure import running
from tests.remote.far import app, far
from tests.remote.things import Thing

async def main():
    async with running(app) as scope:
        handle = await scope.get(far)
        async for word in handle(Thing.words, 10_000):
            print(word, flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""
    with driven(script) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"word 0\n"
        driver.kill()
    await until((place / "words ended").exists)
    await until(lambda: gone(driver.pid))
