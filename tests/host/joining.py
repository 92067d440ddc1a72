"""An app whose workers join a service of the host and use it once for all; in a module that a worker can name."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psycopg
from anyio.from_thread import start_blocking_portal
from fastapi import Depends

from tenure import running, scoped
from tenure.host import EmbeddedPostgres

FOLDER = "TEST_FOLDER"


def folder() -> Path:
    """Read a setting, as apps do."""
    return Path(os.environ[FOLDER])


@scoped("host")
async def server(folder: Annotated[Path, Depends(folder)]) -> EmbeddedPostgres | None:
    """Make what each worker joins."""
    return EmbeddedPostgres(folder)


Server = Annotated[EmbeddedPostgres, Depends(server)]


@scoped("host")
def migrated(server: Server) -> int:
    """Use it, in the first worker alone."""
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (process int)")
        connection.execute("INSERT INTO migrations VALUES (%s)", (os.getpid(),))
    return os.getpid()


@scoped("app")
def dsn(server: Server, migrated: Annotated[int, Depends(migrated)]) -> str:
    """Give what a pool is made with."""
    return f"{migrated} {server.dsn()}"


class Started:
    """What a worker tells its test."""

    def __init__(self, value: str) -> None:
        self._value = value

    def address(self) -> str:
        """Return who migrated, and where the server is."""
        return self._value


@contextmanager
def worker(place: str) -> Generator[Started]:
    """Run an app, as a worker does."""
    settings = Path(place).with_name("run")
    settings.mkdir(mode=0o700, exist_ok=True)
    os.environ |= {FOLDER: place, "XDG_RUNTIME_DIR": str(settings), "TENURE_DEPLOYMENT": "test"}
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running(also=[dsn])) as scope:
        yield Started(portal.call(scope.get, dsn))
