"""A real PostgreSQL, and a way to it that can fall silent; apps that are run as developers run them; a browser."""

from __future__ import annotations

import pytest

from tests.ops.pages.browsing import browser, opened
from tests.pools.conftest import dsn, proxied, server

__all__ = ["browser", "development", "dsn", "opened", "proxied", "server"]


@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let routers be made as `fastapi dev` has them made."""
    monkeypatch.setenv("FASTAPI_ENV", "development")
