"""Where state is kept: one module for each engine."""

from __future__ import annotations

__all__ = ["LONGEST_TTL", "NAME_BYTES"]

NAME_BYTES = 120
"""How long the name of something that processes share may be, in UTF-8."""

LONGEST_TTL = 100 * 365 * 86400.0
"""Seconds that an engine counts; what is to last for longer, or without end, lasts that long."""
