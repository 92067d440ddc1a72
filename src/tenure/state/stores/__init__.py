"""Where state is kept: one module for each engine."""

from __future__ import annotations

__all__ = ["NAME_BYTES"]

NAME_BYTES = 120
"""How long the name of something that processes share may be, in UTF-8."""
