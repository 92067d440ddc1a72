"""Starting: on nothing at all, several at once, again; and the mistakes that people make."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from tests.roster.conftest import new_database
from tests.roster.service import Service

if TYPE_CHECKING:
    from tenure.host.postgres import EmbeddedPostgres

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(180)  # real processes, on a machine that may be busy


def test_two_start_at_once_on_nothing_and_keep_their_data(project: Path) -> None:
    """Two workers that start at once in an empty folder share a new database of 200 users, which the next run finds."""
    with Service(project) as first, Service(project) as second:
        for service in (first.until_ready(), second.until_ready()):
            assert len(httpx.get(f"{service.url}/users?limit=1000").json()) == 200
            assert len(httpx.get(f"{service.url}/users/search?q=anyone&limit=100").json()) == 100
        user = {"username": "ada", "email": "ada@example.com", "bio": "Plays the lute."}
        added = httpx.post(f"{first.url}/users", json=user).json()
        assert httpx.get(f"{second.url}/users/{added['id']}").json() == added
        assert "200 made-up users added" in first.errors + second.errors
    assert (project / ".var" / "roster").is_dir()
    with Service(project) as again:
        again.until_ready()
        assert httpx.get(f"{again.url}/users/{added['id']}").json() == added
        assert len(httpx.get(f"{again.url}/users?limit=1000").json()) == 201
        assert "made-up users added" not in again.errors


def test_two_start_at_once_on_an_empty_database(tmp_path: Path, database: str) -> None:
    """Two workers that start at once on an empty database of another server make its schema once."""
    with Service(tmp_path, ROSTER_DSN=database) as first, Service(tmp_path, ROSTER_DSN=database) as second:
        first.until_ready()
        second.until_ready()
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT count(*), count(embedding), count(DISTINCT embedding_version) FROM users")
        assert found.fetchone() == (200, 200, 1)
    assert not (tmp_path / ".var").exists()


def test_of_four_workers_one_migrates(tmp_path: Path, database: str) -> None:
    """Four workers of one server make the schema of an empty database once, and the others do not even try."""
    with Service(tmp_path, WEB_CONCURRENCY="4", ROSTER_DSN=database, ROSTER_SEED="false") as service:
        service.until_logged("Application startup complete.", times=4)
        assert service.errors.count("schema upgraded") == 1
        assert "schema is up to date" not in service.errors


def test_a_worker_with_another_database_is_refused(tmp_path: Path, server: EmbeddedPostgres, database: str) -> None:
    """It would share what was found in the first one's: it is told so, and what to do, and nothing secret is shared."""
    theirs = database.replace("postgres@", "postgres:secret@")
    with Service(tmp_path, ROSTER_DSN=theirs, ROSTER_SEED="false") as first:
        first.until_ready()
        kept = [path.read_bytes() for path in (tmp_path / "shared").rglob("*.value")]
        assert any(b"roster_" in value for value in kept)
        assert not any(b"secret" in value for value in kept)

        # All at once: the same database by another address, another one in a deployment of its own, and another one.
        other = server.dsn().replace("postgres@", "postgres:secret@")
        with (
            Service(tmp_path, ROSTER_DSN=database, ROSTER_SEED="false") as same,
            Service(tmp_path, ROSTER_DSN=new_database(server), TENURE_DEPLOYMENT="other", ROSTER_SEED="false") as apart,
        ):
            errors = fails(Service(tmp_path, ROSTER_DSN=other, ROSTER_SEED="false"))
            same.until_ready()
            apart.until_ready()
        assert (
            "this worker would use the database `postgres` at a unix socket, and those that run use `roster_" in errors
        )
        assert "give it their ROSTER_DSN and ROSTER_DATA, or a TENURE_DEPLOYMENT of its own" in errors


def fails(service: Service) -> str:
    """Give the errors of a service that does not start, once they are known to have no traceback and no secret."""
    with service:
        assert service.until_ended() != 0
    assert "Traceback" not in service.errors
    assert "secret" not in service.errors
    return service.errors


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("nonsense", "invalid DSN"),
        ("mysql://roster:secret@127.0.0.1/roster", "invalid DSN"),
        ("postgresql://roster:secret@127.0.0.1:1/roster", "Connection refused"),
    ],
)
def test_a_bad_dsn_in_the_env_file_is_named(tmp_path: Path, dsn: str, reason: str) -> None:
    """A DSN that cannot be used ends the start with its reason, the file that it is from, and the cure."""
    file = tmp_path / ".env"
    file.write_text(f"ROSTER_DSN={dsn}\n")
    errors = fails(Service(tmp_path))
    assert f"the database of ROSTER_DSN in the file {file} cannot be used: " in errors
    assert reason in errors
    assert "set it to postgresql://user:password@host:port/database of a PostgreSQL that runs, or remove it" in errors


@pytest.mark.parametrize("password", ["secret#1", "secret/1", "secret?1", "1@2:secret", "secret%1"])
def test_a_password_that_is_not_encoded_is_not_shown(tmp_path: Path, password: str) -> None:
    """A sign in it makes the address another one: the start ends with what to do, and has no part of it."""
    errors = fails(Service(tmp_path, ROSTER_DSN=f"postgresql://roster:{password}@127.0.0.1:1/roster"))
    assert (
        "the database of the environment variable ROSTER_DSN cannot be used: its address cannot be read; "
        "percent-encode `#`, `/`, `?`, `@`, `:` and `%` in a password"
    ) in errors


def test_a_wrong_password_is_named(tmp_path: Path, server: EmbeddedPostgres) -> None:
    """A role that the server does not let in ends the start with the server's words and the variable's name."""
    dsn = server.dsn().replace("postgres@", "stranger:secret@")
    errors = fails(Service(tmp_path, ROSTER_DSN=dsn))
    assert "the database of the environment variable ROSTER_DSN cannot be used: " in errors
    assert 'role "stranger" does not exist' in errors


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    """A setting of the wrong kind ends the start with its name and where it was set."""
    errors = fails(Service(tmp_path, ROSTER_POOL_SIZE="secret"))
    assert "the environment variable ROSTER_POOL_SIZE: Input should be a valid integer" in errors


def test_no_postgresql_at_all_says_how_to_get_one(project: Path) -> None:
    """Where no PostgreSQL is found, the start ends with where it was looked for and the cure."""
    errors = fails(Service(project, TENURE_POSTGRES_BIN=str(project)))
    assert f"TENURE_POSTGRES_BIN names {project}, which has no `initdb` and `postgres` that run" in errors
    assert "name the bin folder of a PostgreSQL, or unset TENURE_POSTGRES_BIN" in errors


def test_a_port_that_is_taken_is_named(tmp_path: Path, database: str) -> None:
    """A port that another program has ends the start in good order, with the port and the reason."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        errors = fails(Service(tmp_path, port=port, ROSTER_DSN=database, ROSTER_SEED="false"))
    assert f"('127.0.0.1', {port}): address already in use" in errors
    assert "Application shutdown complete." in errors


def test_make_run_says_how_to_choose_another_port() -> None:
    """Before anything is started, `make run` says that its port is taken and how to name another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "scripts/port", "127.0.0.1", str(port)]
        asked = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert asked.stderr == (
        f"error: port {port} of 127.0.0.1 is taken by another program\n\n"
        f"hint: choose another: `make run PORT={port + 1}`\n"
    )
    assert "scripts/port $(HOST) $(PORT)" in (PROJECT / "Makefile").read_text()
