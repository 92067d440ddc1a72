"""How an app has started: what began when, what it had waited for, and how it went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from tenure.graph import ids
from tenure.ops.snapshot import Document

if TYPE_CHECKING:
    from tenure.fastapi.application import Application
    from tenure.lifetimes import Tenant


class StartEvent(Document):
    """
    The start of one resource.

    Attributes:
        resource: Its id.
        parent: The id of what it waited for the longest; nothing where it waited for nothing.
        start_time: When it began.
        end_time: When it had ended; nothing before, and where it failed.
        duration: How long it took, in seconds.
        outcome: How it went.
    """

    resource: str
    parent: str | None
    start_time: datetime
    end_time: datetime | None
    duration: float | None
    outcome: Literal["starting", "ready", "failed"]


class Startup(Document):
    """
    The start of an app.

    Attributes:
        start_time: When it began.
        ready_time: When all was ready; nothing before.
        events: What has begun, in that order.
    """

    start_time: datetime
    ready_time: datetime | None
    events: tuple[StartEvent, ...]


def startup(application: Application) -> Startup:
    """Tell how an app has started, as far as it has."""
    lifetime = application.lifetime
    began = datetime.fromtimestamp(lifetime.began, UTC)
    names = ids(dict.fromkeys([*application.graph.started(), *application.graph.nodes]))
    events: list[StartEvent] = []
    for tenant in sorted((each for each in lifetime.tenants.values() if each.began is not None), key=_began):
        last = max(tenant.needs.values(), key=lambda needed: _began(needed) + needed.seconds, default=None)
        start = began + timedelta(seconds=_began(tenant))
        is_ready = tenant.ready.done()
        events.append(
            StartEvent(
                resource=names[tenant.node],
                parent=names[last.node] if last is not None else None,
                start_time=start,
                end_time=start + timedelta(seconds=tenant.seconds) if is_ready else None,
                duration=tenant.seconds if is_ready else None,
                outcome="ready" if is_ready else "failed" if tenant.state == "failed" else "starting",
            )
        )
    ready = lifetime.ready_seconds
    return Startup(
        start_time=began,
        ready_time=began + timedelta(seconds=ready) if ready is not None else None,
        events=tuple(events),
    )


def _began(tenant: Tenant) -> float:
    return tenant.began or 0.0
