"""What an app says of itself: probes, health, its graph, the page, metrics. Reading starts and closes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.ops.router import ops_router

__all__ = ["ops_router"]

__getattr__ = names(__name__, {"ops_router": f"{__name__}.router"})
