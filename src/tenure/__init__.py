"""
tenure: the scopes that FastAPI lacks, with plain `Depends` and `Annotated`.

Each name is imported when it is asked for: what needs no FastAPI, such as `tenure health`, does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.fastapi.leaving import cancel_on_disconnect
    from tenure.lifespan import Scope, lifespan, override, running
    from tenure.resources import Resource, scoped
    from tenure.shutdown import ShuttingDown, shutting_down
    from tenure.state import MISSED, Cache, Counter, Lock, Missed, SharedArray, Topic

__all__ = [
    "MISSED",
    "Cache",
    "Counter",
    "Lock",
    "Missed",
    "Resource",
    "Scope",
    "SharedArray",
    "ShuttingDown",
    "Topic",
    "cancel_on_disconnect",
    "lifespan",
    "override",
    "running",
    "scoped",
    "shutting_down",
]

__version__ = "0.1.0.dev0"

__getattr__ = names(
    __name__,
    {
        "cancel_on_disconnect": f"{__name__}.fastapi.leaving",
        **dict.fromkeys(["Scope", "lifespan", "override", "running"], f"{__name__}.lifespan"),
        **dict.fromkeys(["Resource", "scoped"], f"{__name__}.resources"),
        **dict.fromkeys(["ShuttingDown", "shutting_down"], f"{__name__}.shutdown"),
        **dict.fromkeys(["MISSED", "Cache", "Counter", "Lock", "Missed", "SharedArray", "Topic"], f"{__name__}.state"),
    },
)
