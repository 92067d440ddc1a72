"""A class at `cluster` scope over Ray: one object for all machines of a cluster, which Ray places and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.remote.ray.ending import end

__all__ = ["end"]

__getattr__ = names(__name__, {"end": f"{__name__}.ending"})
