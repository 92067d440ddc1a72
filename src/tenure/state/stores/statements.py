"""What is asked of PostgreSQL for shared state, each in one statement, and the tables that it is asked of."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from asyncpg.exceptions import InvalidSchemaNameError, UndefinedTableError

from tenure.errors import StateMismatch

if TYPE_CHECKING:
    from tenure.state.stores.notifications import Session

VERSION = 1
"""The version of the tables."""
SWEPT_AT_ONCE = 200
"""How many rows a statement sweeps at most."""
UNMADE = (UndefinedTableError, InvalidSchemaNameError)
"""What tells that the tables are not there."""

TURN: Final = int.from_bytes(b"tenure", "big")
"""The advisory lock under which tables are made."""
IS_MISSING: Final = "SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'tenure')"
"""
Whether there is no schema.

Not `to_regnamespace`: a session that has just missed the schema remembers that, and would not see that another has made
it while this one waited for its turn.
"""

TABLES: Final = """
CREATE TABLE IF NOT EXISTS tenure.versions (tables text PRIMARY KEY, version integer NOT NULL);
CREATE UNLOGGED TABLE IF NOT EXISTS tenure.state_values (
    deployment text, key bytea, value bytea, number bigint, expires timestamptz, PRIMARY KEY (deployment, key)
);
CREATE INDEX IF NOT EXISTS state_values_expires ON tenure.state_values (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS tenure.state_kept (
    deployment text, key bytea, value bytea NOT NULL, PRIMARY KEY (deployment, key)
);
CREATE TABLE IF NOT EXISTS tenure.state_locks (
    deployment text, name bytea, holder text NOT NULL, expires timestamptz NOT NULL, PRIMARY KEY (deployment, name)
);
CREATE INDEX IF NOT EXISTS state_locks_expires ON tenure.state_locks (expires);
CREATE TABLE IF NOT EXISTS tenure.state_tokens (deployment text PRIMARY KEY, last bigint NOT NULL);
INSERT INTO tenure.versions VALUES ('state', 1) ON CONFLICT DO NOTHING;
"""
"""Keys are bytes, for text has no NUL here. A number is kept as one, and is a value as its decimal digits."""

# The clock is that of the statement's begin: one that had to wait for a row takes it for held a moment longer.
GET: Final = """
SELECT value, number FROM tenure.state_values
WHERE deployment = $1 AND key = $2 AND (expires IS NULL OR expires > now())
"""

SET: Final = """
INSERT INTO tenure.state_values (deployment, key, value, number, expires)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
ON CONFLICT (deployment, key)
DO UPDATE SET value = excluded.value, number = excluded.number, expires = excluded.expires
"""

DELETE: Final = """
DELETE FROM tenure.state_values WHERE deployment = $1 AND key = $2 RETURNING expires IS NULL OR expires > now()
"""

INCREMENT: Final = """
INSERT INTO tenure.state_values AS kept (deployment, key, number, expires)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))
ON CONFLICT (deployment, key) DO UPDATE SET
    number = excluded.number + CASE WHEN kept.expires <= now() THEN 0 ELSE kept.number END,
    value = NULL,
    expires = CASE WHEN kept.expires <= now() THEN excluded.expires ELSE kept.expires END
WHERE kept.number IS NOT NULL OR kept.expires <= now()
RETURNING number
"""

# Where a commit does not wait for the disk, this one does; where it waits for more than that, it is left so.
_DURABLY = (
    "CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END"
)

KEEP: Final = f"""
INSERT INTO tenure.state_kept (deployment, key, value) VALUES ($1, $2, $3)
ON CONFLICT (deployment, key) DO NOTHING RETURNING true, {_DURABLY}
"""  # noqa: S608 (words of our own)

KEPT: Final = "SELECT value FROM tenure.state_kept WHERE deployment = $1 AND key = $2"

ACQUIRE: Final = f"""
WITH free AS (
    SELECT WHERE NOT EXISTS (
        SELECT FROM tenure.state_locks WHERE deployment = $1 AND name = $2 AND holder <> $3 AND expires > now()
    )
), turn AS (
    INSERT INTO tenure.state_tokens AS token (deployment, last)
    SELECT $1, (extract(epoch FROM now()) * 1000000)::bigint FROM free
    ON CONFLICT (deployment) DO UPDATE SET last = greatest(token.last + 1, excluded.last)
    RETURNING last
)
INSERT INTO tenure.state_locks AS held (deployment, name, holder, expires)
SELECT $1, $2, $3, now() + make_interval(secs => $4) FROM turn
ON CONFLICT (deployment, name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
WHERE held.holder = excluded.holder OR held.expires <= now()
RETURNING (SELECT last FROM turn), {_DURABLY}
"""  # noqa: S608 (words of our own)
"""
The token's row makes takers of locks take turns, so that tokens rise as locks are granted. A token is microseconds of
the server's clock, or one more than the last: it rises also after all was forgotten.
"""

RENEW: Final = f"""
UPDATE tenure.state_locks SET expires = now() + make_interval(secs => $4)
WHERE deployment = $1 AND name = $2 AND holder = $3 AND expires > now() RETURNING true, {_DURABLY}
"""  # noqa: S608 (likewise)

RELEASE: Final = "DELETE FROM tenure.state_locks WHERE deployment = $1 AND name = $2 AND holder = $3"

PUBLISH: Final = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, part) FROM unnest($2::text[]) AS part
"""
"""PostgreSQL lets one transaction at a time commit notifications: none holds the others up until it is on disk."""

SWEEPS: Final = [
    f"""
WITH swept AS (
    DELETE FROM tenure.{table} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM tenure.{table} WHERE expires < now() ORDER BY expires LIMIT {SWEPT_AT_ONCE}
        FOR UPDATE SKIP LOCKED
    )) RETURNING 1
) SELECT count(*) FROM swept
"""  # noqa: S608 (likewise)
    for table in ("state_values", "state_locks")
]


async def make_tables(session: Session) -> None:
    """Make what is missing, one process at a time, and see that it is this version's."""
    version: int | None = None
    question = "SELECT version FROM tenure.versions WHERE tables = 'state'"
    with suppress(*UNMADE):
        version = await session.fetchval(question)
    if version is None:
        async with session.transaction(isolation="read_committed"):  # what another made meanwhile is to be seen
            await session.execute("SELECT pg_advisory_xact_lock($1)", TURN)
            if await session.fetchval(IS_MISSING):
                await session.execute("CREATE SCHEMA tenure")
            await session.execute(TABLES)
            version = await session.fetchval(question)
    if version != VERSION:
        message = f"the tables of shared state are those of version {version}, and this tenure knows version {VERSION}"
        raise StateMismatch(message, path=["tenure.versions"], hint="use one version of tenure, or another database")
