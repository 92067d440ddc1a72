"""The workers of a deployment on one machine: each is found by the others for as long as it lives, and no longer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import pytest

from tenure import running
from tenure.host import locks
from tenure.state.stores import places
from tests.ops.asking import app_of, client_of
from tests.ports import free_port
from tests.waiting import until as waited

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

PROGRAM = Path(sys.executable).with_name("uvicorn")
PROJECT = Path(__file__).parents[2]
DEADLINE = 50
"""Seconds that a server may take on a busy machine."""
STEP = 0.05

Told = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder that only those share that a test starts."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    return shared


@pytest.fixture
def shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let apps of this process share that folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("TENURE_DEPLOYMENT", "tests")
    monkeypatch.setenv("FASTAPI_ENV", "development")
    return folder / "tenure" / "tests" / "workers"


@contextmanager
def serving(
    folder: Path,
    *,
    workers: int = 1,
    deployment: str = "tests",
    program: str = "tests.ops.deployed:app",
    **settings: str,
) -> Generator[str]:
    """Run an app under uvicorn for a block, and give its URL."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENURE_")}
    ours = {"XDG_RUNTIME_DIR": str(folder), "TENURE_DEPLOYMENT": deployment, "FASTAPI_ENV": "development"}
    with (folder.parent / f"{port}.log").open("wb") as log:
        server = subprocess.Popen(
            [PROGRAM, program, f"--port={port}", f"--workers={workers}", *_PATIENT],
            cwd=PROJECT,
            env={**inherited, **ours, **settings},
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(DEADLINE)
        finally:
            server.kill()


# A worker that a test stops is not to be replaced for that; but one that is killed while its server waits for its
# answer is replaced only after this time, in which the server does nothing else.
_PATIENT = (f"--timeout-worker-healthcheck={DEADLINE - 20}",)


def told_by(url: str) -> Told:
    """Give what `/ops/workers.json` tells; nothing while the server does not answer."""
    try:
        told: Told = httpx.get(f"{url}/ops/workers.json", timeout=10).raise_for_status().json()
    except httpx.TransportError:
        return {"workers": [], "silent": []}
    return told


def until(url: str, condition: Callable[[Told], bool]) -> Told:
    """Ask until what is told is as it should be."""
    deadline = time.monotonic() + DEADLINE
    while not condition(told := told_by(url)):
        if time.monotonic() > deadline:
            pytest.fail(f"still {json.dumps(told)[:2000]}")
        time.sleep(STEP)
    return told


def all_of(count: int) -> Callable[[Told], bool]:
    """Give the condition that so many workers are told, with the lowest numbers."""
    return lambda told: not told["silent"] and [each["worker"] for each in told["workers"]] == list(range(count))


def pids(told: Told) -> dict[int, int]:
    """Give the process of each number."""
    return {each["worker"]: each["pid"] for each in told["workers"]}


def wait_for_death(pid: int) -> None:
    """Wait until a process is dead and its server has noticed."""
    deadline = time.monotonic() + DEADLINE
    with suppress(FileNotFoundError, ProcessLookupError):
        while not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
            if time.monotonic() > deadline:
                pytest.fail(f"process {pid} does not die")
            time.sleep(STEP)


# --- under a server ---------------------------------------------------------------------------------------------------


def test_each_worker_tells_of_all(folder: Path) -> None:
    """Whichever is asked, it names each once, with the lowest numbers, and is as well as it says itself."""
    with serving(folder, workers=4) as url:
        told = until(url, all_of(4))
        assert len(set(pids(told).values())) == 4
        assert {(each["app"], each["state"]) for each in told["workers"]} == {("deployed", "ready")}
        for _ in range(8):
            until(url, lambda again: pids(again) == pids(told))


def test_a_worker_that_is_killed_is_gone_at_once_and_its_number_is_taken_again(folder: Path) -> None:
    """No number and no file speaks for the dead; who comes in its place has its number."""
    with serving(folder, workers=3) as url:
        before = pids(until(url, all_of(3)))
        os.kill(before[1], signal.SIGKILL)
        wait_for_death(before[1])
        told = until(url, lambda told: bool(told["workers"]))
        assert before[1] not in pids(told).values()
        assert 1 not in told["silent"]
        after = pids(until(url, all_of(3)))
        assert after[1] != before[1]
        assert (after[0], after[2]) == (before[0], before[2])


def test_a_worker_that_is_stopped_is_silent_and_the_others_answer(folder: Path) -> None:
    """It is told by its number, however often one asks; when it goes on, it is as it was."""
    with serving(folder, workers=3) as url:
        before = pids(until(url, all_of(3)))
        os.kill(before[2], signal.SIGSTOP)
        try:
            told = until(url, lambda told: told["silent"] == [2])
            assert sorted(pids(told)) == [0, 1]
            with ThreadPoolExecutor(40) as threads:  # more than may wait for its answer
                many = list(threads.map(told_by, [url] * 160))
            assert all(2 in told["silent"] and 2 not in pids(told) for told in many if told["workers"])
        finally:
            os.kill(before[2], signal.SIGCONT)
        assert pids(until(url, all_of(3))) == before


def test_a_worker_that_has_forked_is_gone_when_it_is_killed(folder: Path) -> None:
    """A child that outlives it has neither its number nor its socket."""
    with serving(folder, workers=2) as url:
        before = pids(until(url, all_of(2)))
        forked = httpx.post(f"{url}/fork").json()
        number = next(number for number, pid in before.items() if pid == forked["worker"])
        try:
            os.kill(forked["worker"], signal.SIGKILL)
            wait_for_death(forked["worker"])
            assert number not in pids(until(url, lambda told: bool(told["workers"])))
            after = pids(until(url, all_of(2)))
            assert after[number] != forked["worker"]
            os.kill(forked["child"], 0)
        finally:
            os.kill(forked["child"], signal.SIGKILL)


def test_two_deployments_do_not_meet(folder: Path) -> None:
    """Those of one name find each other, whichever port they serve; those of another are not told of."""
    with (
        serving(folder, deployment="blue") as blue,
        serving(folder, deployment="blue") as too,
        serving(folder, deployment="green") as green,
    ):
        assert pids(until(blue, all_of(2))) == pids(until(too, all_of(2)))
        assert pids(until(green, all_of(1))).keys() == {0}
        assert set(pids(told_by(blue)).values()).isdisjoint(pids(told_by(green)).values())


def test_a_path_that_no_socket_can_have_is_no_hindrance(tmp_path: Path) -> None:
    """Where the folder's name is long, the sockets lie elsewhere."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir(mode=0o700)
    with serving(folder, workers=2) as url:
        until(url, all_of(2))


def sockets_of(shared: Path) -> Path:
    """Give the folder in which the sockets are, which may be elsewhere, for the length of its name."""
    return (shared / "sockets").resolve()


def files_in(folder: Path) -> list[Path]:
    """Give what is in a folder."""
    return list(folder.iterdir())


def modes_of(*paths: Path) -> set[int]:
    """Give who may do what with these."""
    return {path.stat().st_mode & 0o777 for path in paths}


# --- what may be in the way -------------------------------------------------------------------------------------------


async def told_here(client: httpx.AsyncClient) -> Told:
    """Give what an app of this process tells of all workers."""
    told: Told = (await client.get("/ops/workers.json")).raise_for_status().json()
    return told


async def test_apps_of_one_process_find_each_other(shared: Path) -> None:
    """Each has a number; one that has left is told of no more, and leaves no socket behind."""
    one, other = app_of(), app_of()
    async with running(one), client_of(one) as client:
        async with running(other):
            assert pids(await told_here(client)) == {0: os.getpid(), 1: os.getpid()}
        assert pids(await told_here(client)) == {0: os.getpid()}
        async with running(other), client_of(other) as too:
            assert pids(await told_here(too)) == {0: os.getpid(), 1: os.getpid()}
        assert {path.name for path in files_in(sockets_of(shared))} == {"0.socket"}
    assert files_in(sockets_of(shared)) == []


async def test_nobody_else_may_look_in(shared: Path) -> None:
    """Every folder on the way is this user's alone."""
    async with running(app_of()):
        assert modes_of(shared.parents[1], shared.parent, shared, sockets_of(shared)) == {0o700}
        assert modes_of(shared / "0.lock", shared / "joining") == {0o600}


@pytest.mark.parametrize("hindrance", ["file", "open to others", "link"])
async def test_where_there_is_no_place_a_worker_is_alone(
    shared: Path, hindrance: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts all the same, says so in the log, and tells of itself, without a number."""
    home = shared.parents[1]
    if hindrance == "file":
        home.touch()
    elif hindrance == "link":
        home.symlink_to(home.parent)
    else:
        home.mkdir()
        home.chmod(0o777)
    async with running(app := app_of()), client_of(app) as client:
        told = await told_here(client)
        assert (await client.get("/readyz")).status_code == 200
    assert pids(told) == {None: os.getpid()}
    assert [message for message in caplog.messages if message.startswith("this worker is not found by others")]


async def endless(writer: asyncio.StreamWriter) -> None:
    """Say something without end."""
    while True:
        writer.write(b"[" * 65536)
        await writer.drain()


async def nothing(writer: asyncio.StreamWriter) -> None:
    """Say nothing, and keep the connection."""
    await asyncio.Event().wait()


async def rubbish(writer: asyncio.StreamWriter) -> None:
    """Say what is no answer."""
    writer.write(b'{"schemaVersion": 99}')


async def goodbye(writer: asyncio.StreamWriter) -> None:
    """Close at once, as one that leaves."""


async def test_what_is_no_worker_does_no_harm(shared: Path) -> None:
    """Files that are no sockets, sockets that say nothing, rubbish or too much: the app tells of itself as ever."""
    tasks = set[asyncio.Task[Any]]()

    def saying(says: Callable[[asyncio.StreamWriter], Any]) -> Callable[..., Any]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                assert await reader.readline() == b"snapshot\n"
                await says(writer)
            except OSError:
                pass  # nobody listens
            finally:
                writer.close()

        return answer

    async with running(app := app_of()), client_of(app) as client:
        sockets = sockets_of(shared)
        for name in ("5.socket", "x.socket", "٣.socket", "-1.socket", "6.txt"):
            (sockets / name).touch()
        (sockets / "7.socket").mkdir()
        (sockets / "8.socket").symlink_to("/nowhere")
        servers = [
            await asyncio.start_unix_server(saying(says), str(sockets / f"{number}.socket"))
            for number, says in ((20, nothing), (21, rubbish), (22, endless), (23, goodbye))
        ]
        try:
            told = await told_here(client)
        finally:
            for server in servers:
                server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert pids(told) == {0: os.getpid()}
    assert told["silent"] == [20, 21, 22]


@pytest.mark.parametrize("sent", [b"", b"snap", b"nonsense\n", b"\xff" * 4000, b"snapshot\nsnapshot\n"])
async def test_a_worker_survives_whatever_it_is_asked(shared: Path, sent: bytes) -> None:
    """A question that it does not know, or that does not end, has no answer, and the next one has."""
    async with running(app := app_of()), client_of(app) as client:
        reader, writer = await asyncio.open_unix_connection(str(sockets_of(shared) / "0.socket"))
        writer.write(sent)
        if sent == b"":
            writer.write_eof()
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                answer = await reader.read()
                assert bool(answer) == sent.startswith(b"snapshot\n")
        writer.close()
        reader, writer = await asyncio.open_unix_connection(str(sockets_of(shared) / "0.socket"))
        writer.write(b"snapshot\n")
        assert json.loads(await reader.read())["pid"] == os.getpid()
        writer.close()
        assert (await client.get("/livez")).status_code == 200


async def test_a_deployment_that_is_being_joined_does_not_hold_up_a_start_for_ever(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is stopped while it comes in keeps the others waiting for a while only: then they are alone."""
    monkeypatch.setattr("tenure.ops.workers.JOINING", 0.05)
    held = await asyncio.to_thread(lambda: locks.take(places.settled("tests", "workers") / "joining"))
    assert held is not None
    with ExitStack() as stack:
        stack.callback(held.release)
        async with running(app := app_of()), client_of(app) as client:
            assert pids(await told_here(client)) == {None: os.getpid()}
    assert "another worker has been coming in for more than 0.05 s" in caplog.text


# --- while all threads are busy ---------------------------------------------------------------------------------------


def all_are_busy() -> bool:
    """Tell whether no thread is left for a handler or a dependency."""
    return anyio.to_thread.current_default_thread_limiter().available_tokens == 0


@asynccontextmanager
async def busy(block: Callable[[threading.Event], Coroutine[Any, Any, Any]]) -> AsyncGenerator[None]:
    """Have as many blocked as there are threads, for a block."""
    over = threading.Event()
    count = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    blocked = [asyncio.create_task(block(over)) for _ in range(count)]
    try:
        await waited(all_are_busy)
        yield
    finally:
        over.set()
        await asyncio.gather(*blocked)


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz?verbose",
        "/ops",
        "/ops/health",
        "/ops/graph.json",
        "/ops/startup.json",
        "/ops/workers.json",
        "/ops/metrics",
    ],
)
async def test_all_is_told_while_handlers_have_all_threads(shared: Path, path: str) -> None:
    """Who looks at an app that stands still is answered while it does."""
    app, events = app_of(), list[threading.Event]()

    @app.get("/blocked")
    def blocked() -> None:
        events[0].wait(DEADLINE)

    async with running(app), client_of(app) as client:

        def block(over: threading.Event) -> Coroutine[Any, Any, Any]:
            events.append(over)
            return client.get("/blocked")

        async with busy(block):
            assert (await client.get(path)).status_code == 200
            assert all_are_busy()


async def test_a_worker_leaves_while_all_threads_are_busy(shared: Path) -> None:
    """Its number and its socket are free again at once, and not when the last thread is."""
    async with AsyncExitStack() as stack:
        async with running(app_of()):
            await stack.enter_async_context(busy(lambda over: anyio.to_thread.run_sync(over.wait, DEADLINE)))
        assert all_are_busy()
        assert files_in(sockets_of(shared)) == []
