"""Whether an app runs for its developers, as FastAPI's own command has it."""

from __future__ import annotations

import os

ENVIRONMENT = "FASTAPI_ENV"
"""The environment variable that says so; `fastapi dev` sets it to ``development``."""


def is_development() -> bool:
    """Tell whether this is a developer's own run."""
    return os.environ.get(ENVIRONMENT) == "development"
