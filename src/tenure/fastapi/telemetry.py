"""Where FastAPI's own telemetry of an app goes, so that what is told of its resources goes there too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI


def telemetry_of(app: FastAPI | None) -> Mapping[str, Any]:
    """Give what ``FastAPI(telemetry=…)`` was given, with FastAPI's defaults; nothing where FastAPI has no telemetry."""
    return getattr(app, "_telemetry", None) or {}
