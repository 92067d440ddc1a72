"""tenure: the scopes that FastAPI lacks, with plain `Depends` and `Annotated`."""

from __future__ import annotations

from tenure.lifespan import Scope, lifespan, override, running
from tenure.resources import Resource, scoped
from tenure.state import MISSED, Cache, Counter, Lock, Missed, Topic

__all__ = [
    "MISSED",
    "Cache",
    "Counter",
    "Lock",
    "Missed",
    "Resource",
    "Scope",
    "Topic",
    "lifespan",
    "override",
    "running",
    "scoped",
]

__version__ = "0.1.0.dev0"
