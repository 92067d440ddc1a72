"""The app under test, once on each kind of pool."""

from pathlib import Path

import pytest

from tests.faults.pools.serving import Server


@pytest.fixture(params=["asyncpg", "sqlalchemy"])
def server(request: pytest.FixtureRequest, tmp_path: Path, port: int, dsn: str) -> Server:
    """Give what serves the app."""
    return Server(request.param, tmp_path, port, dsn)
