"""tenure: the scopes that FastAPI lacks, with plain `Depends` and `Annotated`."""

from __future__ import annotations

from tenure.lifespan import Scope, lifespan, override, running
from tenure.resources import Resource, scoped
from tenure.state import Counter

__all__ = ["Counter", "Resource", "Scope", "lifespan", "override", "running", "scoped"]

__version__ = "0.1.0.dev0"
