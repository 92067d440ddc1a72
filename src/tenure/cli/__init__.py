"""The command `tenure`: checks an app, draws it, starts it once, and asks a running one how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.cli.entry import main

__all__ = ["main"]

__getattr__ = names(__name__, {"main": f"{__name__}.entry"})
