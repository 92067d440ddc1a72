"""What an app says of itself: probes, health, its graph, the page, metrics. Reading starts and closes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.checks import Degraded
    from tenure.ops.metrics import metrics_router
    from tenure.ops.probe_filter import ProbeFilter
    from tenure.ops.router import ops_router

__all__ = ["Degraded", "ProbeFilter", "metrics_router", "ops_router"]

__getattr__ = names(
    __name__,
    {
        "Degraded": "tenure.checks",
        "ProbeFilter": f"{__name__}.probe_filter",
        "metrics_router": f"{__name__}.metrics",
        "ops_router": f"{__name__}.router",
    },
)
