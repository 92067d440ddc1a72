"""Lines without colour: data on standard output, the rest on standard error. Without Rich, which is slow to import."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def tell(lines: Iterable[str]) -> None:
    """Print data."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def notice(lines: Iterable[str]) -> None:
    """Print what is no data: what goes on, and what went wrong."""
    for line in lines:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def tell_document(document: Mapping[str, Any]) -> None:
    """Print a JSON document as data, one for each run of a command."""
    tell([json.dumps(document, indent=2, ensure_ascii=False)])


def refuse(message: str) -> None:
    """Say what was wrong with how the command was used."""
    notice([f"error: {message}"])
