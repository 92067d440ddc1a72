"""The database and the servers that are compared: real processes on loopback, ended with their block."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.served.load import CannotMeasure, ask
from tenure.host.locks import is_held
from tenure.host.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Generator

APPS = Path(__file__).with_name("apps")
USERS = 100
DEADLINE = 60
"""Seconds that a start or an end may take."""


@dataclass(frozen=True)
class Contender:
    """A program that is compared."""

    name: str
    app: str

    @contextmanager
    def serve(self, folder: Path, dsn: str, *, workers: int = 1) -> Generator[str]:
        """
        Serve it with uvicorn as it is without options, except that requests are not logged, and give its address.

        Raises:
            CannotMeasure: It did not start; the message has what it said.
        """
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ROSTER_")}
        options = [f"--port={port}", f"--workers={workers}", f"--app-dir={APPS}", "--no-access-log"]
        log = folder / f"{self.app}-{port}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 (a command of our own)
                [sys.executable, "-m", "uvicorn", self.app, *options],
                cwd=folder,
                env={**environment, "DATABASE_URL": dsn, "ROSTER_DSN": dsn},
                stdout=errors,
                stderr=errors,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            if not _answers(url, process):
                message = f"{self.name} did not start:\n{log.read_text()}"
                raise CannotMeasure(message)
            yield url
        finally:
            _end(process)


SPECIFICATION = Contender("the specification's program", "specification:app")
TYPED = Contender("the same, with types of answers", "typed:app")
ROSTER = Contender("roster", "roster.main:app")


@contextmanager
def database() -> Generator[tuple[Path, str]]:
    """
    Run a PostgreSQL with roster's table of 100 users, beside the specification's model; give folder and address.

    The table is roster's, because the specification's program needs no more of it than two columns.
    """
    folder = Path(tempfile.mkdtemp(prefix="tenure-benchmark-"))
    folder.chmod(0o755)  # when root runs this, PostgreSQL's user has to pass
    try:
        with (folder / "model.pkl").open("wb") as file:
            pickle.dump({"bias": 0.5, "weights": [0.25] * 384}, file)
        with EmbeddedPostgres(folder / "postgres") as server:
            with ROSTER.serve(folder, server.dsn()):
                pass  # its first start makes the table, with 200 users
            asyncio.run(_keep_users(server.dsn()))
            yield folder, server.dsn()
    finally:
        _until_unused(folder)
        shutil.rmtree(folder)


async def _keep_users(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM users WHERE id > $1", USERS)
    # The specification's statement has no ORDER BY: in order on disk, both programs answer in the same one.
    await connection.execute("CLUSTER users USING users_pkey")
    await connection.execute("VACUUM ANALYZE users")
    await connection.close()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            ask(f"{url}/openapi.json")
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until_unused(folder: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while any(is_held(lock) for name in ("keeper", "service") for lock in folder.rglob(name)):
        if time.monotonic() > deadline:
            message = f"a PostgreSQL is left in {folder}"
            raise CannotMeasure(message)
        time.sleep(0.05)


def free_port() -> int:
    """Give a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port
