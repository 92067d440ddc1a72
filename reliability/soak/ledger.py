"""What the clients were told is written, held against what PostgreSQL has in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Entry:
    """
    One user, whom one client alone writes.

    Attributes:
        email: What the last acknowledged write has made of the user; None for none.
        sent: What a write makes of the user that was sent and is not acknowledged.
        is_open: Whether there is such a write.
    """

    email: str | None = None
    sent: str | None = None
    is_open: bool = False


@dataclass(frozen=True)
class Account:
    """
    What became of the writes.

    Attributes:
        acknowledged: How many were answered with success.
        lost: Users who are not as the last acknowledged write has made them, nor as one after it would have.
        unacknowledged: Writes that were sent and not answered with success, so that nobody knows.
        found: How many of these were made nevertheless.
    """

    acknowledged: int
    lost: int
    unacknowledged: int
    found: int


class Ledger:
    """Notes each write before it is sent and when it is acknowledged; after one that is not, its user is left alone."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._acknowledged = 0

    def send(self, username: str, email: str | None) -> None:
        """Note that a write is sent which gives the user this email; None removes the user."""
        entry = self._entries.setdefault(username, Entry())
        entry.sent, entry.is_open = email, True

    def acknowledge(self, username: str) -> None:
        """Note that the write that was sent last was answered with success."""
        entry = self._entries[username]
        entry.email, entry.is_open = entry.sent, False
        self._acknowledged += 1

    def email(self, username: str) -> str | None:
        """Tell what the last acknowledged write has made of a user."""
        return self._entries[username].email

    def account(self, rows: Mapping[str, str]) -> Account:
        """Hold all of it against the users that there are: names, with their emails."""
        lost = found = unacknowledged = 0
        for username, entry in self._entries.items():
            email = rows.get(username)
            unacknowledged += entry.is_open
            found += entry.is_open and email == entry.sent
            lost += email != entry.email and not (entry.is_open and email == entry.sent)
        return Account(self._acknowledged, lost, unacknowledged, found)
