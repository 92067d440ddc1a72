"""One PostgreSQL for all tests of what breaks things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reliability.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tenure.host.postgres import EmbeddedPostgres


@pytest.fixture(scope="package")
def database() -> Iterator[tuple[Path, EmbeddedPostgres]]:
    """Run a PostgreSQL, with a folder for logs."""
    with postgres() as given:
        yield given
