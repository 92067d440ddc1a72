"""Make the table of avatars."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table; images are compressed already, and PostgreSQL need not try."""
    op.execute(
        """
        CREATE TABLE avatars (
            user_id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
            media_type text NOT NULL,
            tag text NOT NULL,
            image bytea STORAGE EXTERNAL NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE avatars")
