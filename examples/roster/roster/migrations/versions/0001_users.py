"""Make the table of users."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table; names compare byte by byte, so that its index serves prefixes too."""
    op.execute(
        """
        CREATE TABLE users (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            username text COLLATE "C" NOT NULL UNIQUE,
            email text NOT NULL,
            bio text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            embedding real[],
            embedding_version text
        )
        """
    )


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE users")
