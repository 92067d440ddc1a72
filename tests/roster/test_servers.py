"""roster under each server that people run, from start to SIGTERM."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from tests.roster.service import SERVERS, Service

if TYPE_CHECKING:
    from pathlib import Path

    from tenure.host.postgres import EmbeddedPostgres

pytestmark = pytest.mark.timeout(180)  # real processes, on a machine that may be busy


@pytest.fixture(scope="module")
def prepared(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the address of a database with few users, so that each start is short."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE servers")
    dsn = server.dsn("servers")
    with Service(tmp_path_factory.mktemp("prepare"), ROSTER_DSN=dsn, ROSTER_SEED="false") as service:
        service.until_ready()
        user = {"username": "ada", "email": "ada@example.com", "bio": "Plays the lute."}
        httpx.post(f"{service.url}/users", json=user).raise_for_status()
    return dsn


@pytest.mark.parametrize("server_name", SERVERS)
def test_each_server_runs_it_and_ends_it(tmp_path: Path, prepared: str, server_name: str) -> None:
    """It starts, logs what has started, answers every subject, and on SIGTERM leaves no connection behind."""
    with Service(tmp_path, server_name, ROSTER_DSN=prepared) as service:
        service.until_ready()
        answers = [httpx.get(f"{service.url}{path}").json() for path in ("/users", "/users/search?q=music", "/stats")]
        status = service.stop()
    assert answers[0] == [{"id": 1, "username": "ada"}]
    assert answers[1][0]["username"] == "ada"
    assert answers[2] == {"total_requests": 1}
    assert status in {0, -signal.SIGTERM}  # uvicorn, once all is closed, ends by the signal that it was sent
    assert re.search(r'"event": "users ready in [\d.]+ s", "logger": "tenure"', service.errors)
    assert "Traceback" not in service.errors
    assert "Plays the lute" not in service.errors
    with psycopg.connect(prepared) as connection:
        left = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert left.fetchone() == (1,)  # this one
