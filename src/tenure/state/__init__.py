"""State that is right however many share it: handles that are declared once and injected as themselves."""

from __future__ import annotations

from tenure.state.cache import Cache
from tenure.state.counter import Counter
from tenure.state.deployments import deployed, deployment_name
from tenure.state.engines import MISSED, Missed
from tenure.state.handles import app_engine
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
    "Subscription",
    "Topic",
    "app_engine",
    "deployed",
    "deployment_name",
]
