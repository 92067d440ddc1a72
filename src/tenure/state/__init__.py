"""State that is right however many share it: handles that are declared once and injected as themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.state.arrays import SharedArray
    from tenure.state.cache import Cache
    from tenure.state.counter import Counter
    from tenure.state.deployments import deployed, deployment_name
    from tenure.state.engine_handles import app_engine, cluster_engine, host_engine
    from tenure.state.engines import MISSED, Missed
    from tenure.state.lock import Held, Lock
    from tenure.state.stores.memory_engine import MemoryEngine
    from tenure.state.topic import Subscription, Topic

__all__ = [
    "MISSED",
    "Cache",
    "Counter",
    "Held",
    "Lock",
    "MemoryEngine",
    "Missed",
    "SharedArray",
    "Subscription",
    "Topic",
    "app_engine",
    "cluster_engine",
    "deployed",
    "deployment_name",
    "host_engine",
]

_HOMES = {
    "MISSED": "engines",
    "Cache": "cache",
    "Counter": "counter",
    "Held": "lock",
    "Lock": "lock",
    "MemoryEngine": "stores.memory_engine",
    "Missed": "engines",
    "SharedArray": "arrays",
    "Subscription": "topic",
    "Topic": "topic",
    "app_engine": "engine_handles",
    "cluster_engine": "engine_handles",
    "deployed": "deployments",
    "deployment_name": "deployments",
    "host_engine": "engine_handles",
}

__getattr__ = names(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})
