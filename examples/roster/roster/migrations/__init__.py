"""The schema's versions, applied at start."""

from __future__ import annotations

from pathlib import Path

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, text

from roster.seed import made_up_users

log: structlog.stdlib.BoundLogger = structlog.get_logger("roster")

NEWEST = max(path.stem for path in Path(__file__).with_name("versions").glob("[0-9]*.py"))
"""The newest version, such as ``0001_users``."""
LOCK = 7_021_950_321
"""The number of the advisory lock that machines take turns by; any would do that nobody else on the database uses."""


def upgrade(dsn: str, *, seed: bool) -> None:
    """
    Bring a database to the newest version, in one transaction: wholly or not at all.

    Of several machines that start at once the first does it, and the others wait for it.

    Args:
        dsn: The database's address, as libpq takes it.
        seed: Whether a database that has no version yet gets the made-up users.
    """
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(dsn, connect_timeout=10),
        poolclass=NullPool,
        hide_parameters=True,
    )
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "roster:migrations")
        command.upgrade(config, "head")
        now = MigrationContext.configure(connection).get_current_revision()
        if before == now:
            log.info("schema is up to date", now=now)
        else:
            log.info("schema upgraded", before=before, now=now)
        if before is None and seed:
            insert = text("INSERT INTO users (username, email, bio) VALUES (:username, :email, :bio)")
            connection.execute(insert, made_up_users())
            log.info("a new database: 200 made-up users added")
