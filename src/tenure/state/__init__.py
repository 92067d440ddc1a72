"""State that is right however many share it: handles that are declared once and injected as themselves."""

from __future__ import annotations

from tenure.state.counter import Counter
from tenure.state.deployments import deployed, deployment_name

__all__ = ["Counter", "deployed", "deployment_name"]
