"""An embedded Valkey: one for all workers, on a socket of their own, that evicts nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
import pytest
import redis
import redis.asyncio

from processes import Worker, alive, gone, parent, until
from tenure.errors import HostServiceError
from tenure.host import EmbeddedValkey
from tenure.host.valkey import find_server
from valkeys import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


def ask(server: EmbeddedValkey, *words: str | int | bytes) -> object:
    """Return what a command answers."""
    with redis.Redis.from_url(server.url()) as client:
        return client.execute_command(*words)


def pid(server: EmbeddedValkey) -> int:
    """Tell the process number of the server."""
    return int(cast("dict[str, int]", ask(server, "INFO", "server"))["process_id"])


def serves(server: EmbeddedValkey) -> bool:
    """Tell whether the server takes a command now."""
    with suppress(redis.ConnectionError):
        return ask(server, "PING") is True
    return False


def fill(server: EmbeddedValkey) -> int:
    """Give it values until it refuses one, at most a hundred; how many it took."""
    for number in range(100):
        try:
            ask(server, "SET", f"value-{number}", b"x" * 100_000)
        except redis.OutOfMemoryError:
            return number
    return 100


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedValkey]:
    """Run one server for the tests that only look at it."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    with EmbeddedValkey(place) as server:
        yield server
    until(lambda: gone(place))
    shutil.rmtree(place)


def test_eight_starters_at_once_get_one_server_that_ends_when_all_are_killed(
    folder: Path, workers: list[Worker]
) -> None:
    """Eight processes that start at the same moment share one server; one killed changes nothing; all killed end it."""
    workers += [Worker(Store, folder) for _ in range(8)]
    assert len({worker.address() for worker in workers}) == 1
    with EmbeddedValkey(folder) as server:
        first = pid(server)
        workers[0].kill()
        assert (pid(server), alive(first)) == (first, True)
    for worker in workers[1:]:
        worker.kill()
    until(lambda: not alive(first))


def test_a_killed_server_comes_back_empty(folder: Path) -> None:
    """The server is restarted by itself, at the same address; what it kept in memory is gone."""
    with EmbeddedValkey(folder) as server:
        ask(server, "SET", "word", "lost")
        first, url = pid(server), server.url()
        os.kill(first, signal.SIGKILL)
        until(lambda: serves(server))
        assert (ask(server, "GET", "word"), server.url(), pid(server) == first) == (None, url, False)


def test_a_durable_server_that_is_killed_comes_back_with_all_that_was_acknowledged(folder: Path) -> None:
    """Not one of a thousand additions is missing after the server was killed."""
    with EmbeddedValkey(folder, durable=True) as server:
        for _ in range(1000):
            ask(server, "INCR", "count")
        os.kill(pid(server), signal.SIGKILL)
        until(lambda: serves(server))
        assert ask(server, "GET", "count") == b"1000"


def test_durable_data_are_kept_between_runs_and_others_are_not(folder: Path) -> None:
    """What a durable server was told the next run finds; another server begins empty each time."""
    for durable, found in ((True, b"still here"), (False, None)):
        place = folder / str(durable)
        with EmbeddedValkey(place, durable=durable) as server:
            ask(server, "SET", "word", "still here")
        until(lambda place=place: gone(place))
        with EmbeddedValkey(place, durable=durable) as server:
            assert ask(server, "GET", "word") == found
        until(lambda place=place: gone(place))


def test_a_server_goes_with_its_keeper_and_the_next_worker_starts_another(folder: Path) -> None:
    """A killed keeper takes the server along; whoever acquires next gets a new one, at the same address."""
    with EmbeddedValkey(folder) as server:
        first = pid(server)
        keeper = parent(first)
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not alive(keeper))
        with EmbeddedValkey(folder) as again:
            assert (again.url(), pid(again) == first, alive(first)) == (server.url(), False, False)


def test_workers_must_agree_whether_it_is_durable(folder: Path) -> None:
    """A worker that wants the other kind is refused, and the server goes on for the first."""
    for durable in (True, False):
        place = folder / str(durable)
        with EmbeddedValkey(place, durable=durable) as server:
            with pytest.raises(HostServiceError, match="let all workers say the same, or name another folder"):
                EmbeddedValkey(place, durable=not durable).acquire()
            assert serves(server)
        until(lambda place=place: gone(place))


async def test_the_asynchronous_client_takes_the_address(shared: EmbeddedValkey) -> None:
    """It is joined and used in a running loop."""
    async with EmbeddedValkey(shared.folder) as server, redis.asyncio.from_url(server.url()) as client:
        assert await client.ping()


def test_the_server_listens_on_no_network(shared: EmbeddedValkey) -> None:
    """It has no TCP port, and its socket lies in a folder that only its own user may enter."""
    assert ask(shared, "CONFIG", "GET", "port") == {b"port": b"0"}
    path = Path(shared.url().removeprefix("unix://"))
    assert (path.is_socket(), path.parent.stat().st_mode & 0o777) == (True, 0o700)


def test_a_full_server_refuses_and_evicts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its bound, which the environment may set, a write is an error; what was there before stays."""
    monkeypatch.setenv("TENURE_VALKEY_MEMORY", "3mb")
    with EmbeddedValkey(folder) as server:
        ask(server, "SET", "lock", "mine", "PX", 600_000)
        kept = fill(server)
        assert (0 < kept < 100, ask(server, "DBSIZE")) == (True, kept + 1)
        assert ask(server, "GET", "lock") == b"mine"


def test_a_long_or_odd_path_gets_a_short_socket(folder: Path) -> None:
    """A folder whose path no unix socket could have, or whose name is full of signs, works like any other."""
    odd = folder / "a, b & 'c' \"d\" ü" / ("x" * 100)
    with EmbeddedValkey(odd, durable=True) as server, EmbeddedValkey(odd, durable=True) as other:
        assert ask(server, "INCR", "count") == 1
        assert other.url() == server.url()
        sockets = Path(server.url().removeprefix("unix://")).parent
        assert (len(str(sockets)) < 40, sockets.stat().st_mode & 0o777) == (True, 0o700)
    until(lambda: gone(odd))
    with EmbeddedValkey(odd, durable=True) as server:
        assert ask(server, "INCR", "count") == 2
        assert server.url() == f"unix://{sockets}/valkey.sock"
    until(lambda: gone(odd))
    shutil.rmtree(sockets)


def test_a_socket_folder_of_someone_else_is_refused(folder: Path) -> None:
    """A folder that others could enter is not used: the error says which to remove."""
    (folder / "sockets").mkdir(parents=True)
    (folder / "sockets").chmod(0o777)
    with pytest.raises(HostServiceError, match="the folder for the server's socket, is not a folder of mode 0700"):
        EmbeddedValkey(folder).acquire()


def test_a_program_that_the_environment_names_is_the_only_one_looked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`TENURE_VALKEY_BIN` names a program or its folder; where there is none that runs, the error says so."""
    program = find_server()
    monkeypatch.setenv("TENURE_VALKEY_BIN", str(Path(program).parent))
    assert find_server() == program
    monkeypatch.setenv("TENURE_VALKEY_BIN", program)
    assert find_server() == program
    monkeypatch.setenv("TENURE_VALKEY_BIN", sys.executable)
    with pytest.raises(HostServiceError) as caught:
        EmbeddedValkey(folder).acquire()
    assert caught.value.message == (
        f"the service in {folder} did not start: "
        f"TENURE_VALKEY_BIN names {sys.executable}, which is no Valkey server that runs, nor a folder that has one"
    )
    assert caught.value.hint == "name the program, or unset TENURE_VALKEY_BIN"


def test_a_server_on_the_path_serves_where_the_wheel_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`redis-server` on PATH is used when no package has a program; with neither, the error names the cures."""
    program = find_server()
    monkeypatch.setattr("tenure.host.valkey.WHEELS", (("no_such_package", "*"),))
    folder.mkdir()
    (folder / "redis-server").symlink_to(program)
    (folder / "valkey-server").write_text("#!/bin/sh\nexit 127\n")
    (folder / "valkey-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert find_server() == str(folder / "redis-server")
    monkeypatch.setenv("PATH", str(folder / "nothing"))
    with pytest.raises(HostServiceError, match=r"no Valkey server program was found\n\nhint: install the extra"):
        find_server()


def test_an_address_is_of_a_server_in_use(shared: EmbeddedValkey) -> None:
    """Before it is acquired and after it is released a server has no address to give."""
    server = EmbeddedValkey(shared.folder)
    with pytest.raises(HostServiceError, match="is not acquired"):
        server.url()
    with server:
        assert server.url() == shared.url()
    with pytest.raises(HostServiceError, match="is not acquired"):
        server.url()


def test_a_full_house_can_still_be_joined(folder: Path) -> None:
    """A server that takes no further client is in service: who joins it does not wait for one to leave."""
    with EmbeddedValkey(folder) as server:
        ask(server, "CONFIG", "SET", "maxclients", 1)
        with redis.Redis.from_url(server.url()) as only:
            assert only.ping()
            with EmbeddedValkey(folder) as other:
                assert other.url() == server.url()


def test_a_server_that_outlived_its_keeper_can_be_told_to_end(folder: Path) -> None:
    """Where the kernel does not end it with its keeper, the next keeper asks it to."""
    with EmbeddedValkey(folder) as server:
        first = pid(server)
        server.evict()
        until(lambda: not alive(first))


def test_the_event_loop_runs_while_a_server_starts(folder: Path) -> None:
    """A start that is cancelled leaves nothing running."""

    async def start() -> None:
        with anyio.move_on_after(0.001):
            async with EmbeddedValkey(folder):
                pass

    anyio.run(start)
    until(lambda: gone(folder))
