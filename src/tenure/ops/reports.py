"""How an app is, in the forms that machines read: the health+json draft, and the text of Kubernetes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Response

from tenure.pools.base import BasePool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenure.fastapi.application import Application
    from tenure.lifetimes import Tenant
    from tenure.ops.operations import Operations
    from tenure.ops.snapshot import CheckSnapshot

HEALTH = "application/health+json"
NOT_STORED = {"Cache-Control": "no-store"}
SOON = 1
"""Seconds after which who was told that the app is on its way may ask again."""
LATER = 5
"""The same, of who was told that a check fails: it is run that often unless it says otherwise."""
LATE = 0.5
"""Seconds by which an event loop that serves well is not late."""
WITHHELD = "reason withheld"

Status = Literal["pass", "warn", "fail"]

_ON_ITS_WAY = {
    "starting": "the app is starting",
    "draining": "the app is about to stop, and is to get no new requests",
    "stopping": "the app is stopping",
    "stopped": "the app has stopped",
    "failed": "the app did not start",
}
_NOT_HERE = "the app was not started by tenure's lifespan in this process and event loop"
_MARK = {"pass": "[+]{} ok", "warn": "[+]{} degraded: {}", "fail": "[-]{} failed: {}"}


@dataclass(frozen=True)
class Part:
    """
    One thing that was looked at.

    Attributes:
        name: What it is called.
        measured: What of it was measured.
        milliseconds: That, once it was.
        status: How it is; of what has not been checked yet, what that means for the app.
        reason: Why it is not well; it may be an error's text.
        own: What else is told of it where details are.
    """

    name: str
    measured: str
    milliseconds: float | None
    status: Status
    reason: str = ""
    own: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def fails_all(self) -> bool:
        """Whether the app is not well while this is not."""
        return self.status == "fail" and bool(self.own.get("critical"))

    def line(self, *, details: bool) -> str:
        """Say it as Kubernetes does."""
        return _MARK[self.status].format(self.name, self.reason if details else WITHHELD)

    def drafted(self) -> dict[str, Any]:
        """Say it as the draft does."""
        value = {} if self.milliseconds is None else {"observedValue": self.milliseconds, "observedUnit": "ms"}
        return {**self.own, **value, "status": self.status, **({"output": self.reason} if self.reason else {})}


@dataclass(frozen=True)
class Report:
    """
    How an app is.

    Attributes:
        status: For all of it together.
        why: What is so, if it is not a part that fails; never an error's text.
        parts: What was looked at.
        pending: The names of what has not started yet.
        retry_after: Seconds after which it may be another.
        notes: What else the reader should know.
        is_unknown: Whether nothing of it is there.
    """

    status: Status
    why: str = ""
    parts: tuple[Part, ...] = ()
    pending: tuple[str, ...] = ()
    retry_after: int = SOON
    notes: tuple[str, ...] = ()
    is_unknown: bool = False

    def response(self, title: str, *, details: bool, verbose: bool = False) -> Response:
        """Answer with it: 503 for a failure, else 200; as the draft has it, or in `verbose`, as Kubernetes does."""
        code, headers = 200, NOT_STORED
        if self.is_unknown:
            code = 404
        elif self.status == "fail":
            code, headers = 503, {**NOT_STORED, "Retry-After": str(self.retry_after)}
        if verbose:
            return Response(self._text(title, details=details), code, headers, "text/plain")
        return Response(json.dumps(self._drafted(details=details)), code, headers, HEALTH)

    def _drafted(self, *, details: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"status": self.status}
        if self.why:
            told["output"] = self.why
        if self.pending:
            told["pending"] = self.pending
        if self.notes:
            told["notes"] = self.notes
        if details and self.parts:
            told["checks"] = {f"{part.name}:{part.measured}": [part.drafted()] for part in self.parts}
        return told

    def _text(self, title: str, *, details: bool) -> str:
        app = f"[-]app failed: {self.why}" if self.why else "[+]app ok"
        lines = [app, *(f"[-]{name} failed: not started" for name in self.pending)]
        lines += [part.line(details=details) for part in self.parts]
        lines += [f"warn: {note}" for note in self.notes]
        return "\n".join([*lines, f"{title} check {'failed' if self.status == 'fail' else 'passed'}", ""])


def unknown(what: str, known: Iterable[str]) -> Report:
    """Tell that nothing is called so, and what is."""
    return Report("fail", f"{what}; there {'is' if not known else 'are'} {', '.join(known) or 'none'}", is_unknown=True)


def liveness(application: Application | None, operations: Operations | None) -> Report:
    """Tell whether a process is to be kept; nothing that it shares with others is asked."""
    if application is None:
        return Report("fail", _NOT_HERE)
    if application.phase == "failed":
        return Report("fail", _ON_ITS_WAY["failed"])
    if operations is None:
        return Report("pass")
    late = operations.lag.worst
    status: Status = "warn" if late > LATE else "pass"
    own = {"componentId": "event loop", "componentType": "system", "critical": False}
    reason = "something holds up the event loop: see what blocks in it" if status == "warn" else ""
    return Report(status, parts=(Part("eventLoop", "lag", round(late * 1000, 3), status, reason, own),))


def readiness(application: Application | None, parts: Iterable[Part] | None, notes: Iterable[str] = ()) -> Report:
    """Tell whether an app is to get requests, by where it is and by these parts; nothing where none are known."""
    if application is None:
        return Report("fail", _NOT_HERE)
    looked_at = tuple(parts or ())
    why = _ON_ITS_WAY.get(application.phase, "")
    if why:
        pending = tuple(_pending(application.lifetime.tenants.values())) if application.phase == "starting" else ()
        return Report("fail", why, looked_at, pending, notes=tuple(notes))
    if parts is None:
        return Report("fail", "what looks after the checks of the app has ended")
    failing = [part for part in looked_at if part.fails_all]
    status: Status = "fail" if failing else "warn" if any(part.status != "pass" for part in looked_at) else "pass"
    return Report(status, parts=looked_at, retry_after=LATER if failing else SOON, notes=tuple(notes))


def readiness_of(application: Application | None, part: Part | None) -> Report:
    """Tell how one part of an app is, whatever that means for all of it."""
    report = readiness(application, None if part is None else [part])
    return report if report.why or part is None else replace(report, status=part.status)


def _pending(tenants: Iterable[Tenant]) -> list[str]:
    return [tenant.node.name for tenant in tenants if tenant.state in {"declared", "starting"}]


def parts_of(operations: Operations) -> dict[str, Part]:
    """Give each check of an app by its name, as it was when it was run last."""
    return {
        check.name: _part(check, operations.application.lifetime.tenants[node])
        for node, checks in operations.checks.told().items()
        for check in checks
    }


def _part(check: CheckSnapshot, tenant: Tenant) -> Part:
    resource = tenant.node.resource
    own: dict[str, Any] = {
        "componentId": tenant.node.name,
        "componentType": "datastore" if isinstance(tenant.value, BasePool) else "component",
        "scope": resource.scope if resource is not None else "app",
        "critical": check.critical,
        "stale": check.stale,
        "tags": check.tags,
    }
    if check.time is not None:
        own["time"] = check.time.isoformat()
    status, reason = check.status, check.output
    if status == "pending":
        status, reason = ("fail", "it has not been checked yet") if check.critical else ("pass", "")
    milliseconds = None if check.seconds is None else round(check.seconds * 1000, 3)
    return Part(check.name, "responseTime", milliseconds, status, reason, own)
