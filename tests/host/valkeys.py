"""Valkey servers that the worker of these tests can name; in a module of their own, for the keeper imports them."""

from __future__ import annotations

from tenure.host import EmbeddedValkey


class Store(EmbeddedValkey):
    """The embedded Valkey."""

    def address(self) -> str:
        """Return where it is."""
        return self.url()
