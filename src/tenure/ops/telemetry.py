"""
What an app's resources and pools do, told to OpenTelemetry: spans and metrics, of whatever SDK the program sets up.

Only the API is used, which does nothing without an SDK.
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias, cast, get_args

from opentelemetry import context, trace
from opentelemetry.metrics import Observation
from opentelemetry.trace import StatusCode

import tenure
from tenure.fastapi.telemetry import telemetry_of
from tenure.graph import ids
from tenure.lifetimes import State
from tenure.models.handle import Model
from tenure.ops.instruments import POOL, POOL_STATE, instruments_of
from tenure.pools.errors import PoolExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span, Tracer

    from tenure.fastapi.application import Application
    from tenure.graph import Node
    from tenure.models.handle import ModelStats
    from tenure.observers import End, What
    from tenure.ops.instruments import Instruments
    from tenure.ops.models import Measure
    from tenure.ops.operations import Operations
    from tenure.ops.snapshot import CheckSnapshot

    Observations: TypeAlias = Iterator[Observation]

APP, RESOURCE, CHECK, SCOPE, STATE = "tenure.app", "tenure.resource", "tenure.check", "tenure.scope", "tenure.state"
MODEL, VERSION = "tenure.model", "tenure.model.version"
ERROR = "error.type"
STATES: tuple[str, ...] = get_args(State)
HEALTH = {"pass": 1.0, "warn": 0.5, "fail": 0.0}


class Telemetry:
    """
    The observer of one app: its spans, and what is read of it when metrics are collected, from whatever thread.

    All goes to the providers that ``FastAPI(telemetry=…)`` names, else to the global ones.
    """

    def __init__(self, application: Application) -> None:
        graph = application.graph
        self._application = application
        self._app = application.title
        self._ids = ids(dict.fromkeys([*graph.started(), *graph.nodes]))
        said = telemetry_of(application.plan.app)
        self._tracer: Tracer | None = None
        if said.get("tracing", True):
            self._tracer = trace.get_tracer("tenure", tenure.__version__, said.get("tracer_provider"))
        self._instruments: Instruments | None = None
        if said.get("metrics", True):
            self._instruments = instruments_of(said.get("meter_provider"))
        self._whole: Span | None = None

    def begin(self, what: What, name: str, scope: str) -> End:
        """Begin a span, in which the task that calls goes on; what ends it records how long it took."""
        about = {APP: self._app}
        if name:
            about |= {CHECK if what == "check" else RESOURCE: name, SCOPE: scope}
        if what == "app" and self._instruments is not None:
            self._instruments.add(self)
        span = self._span(what, name, about)
        token = None if span is None or what == "stop" else context.attach(trace.set_span_in_context(span))
        began = perf_counter()

        def end(error: BaseException | None) -> None:
            seconds = perf_counter() - began
            if token is not None:
                context.detach(token)
            if span is not None:
                _end(span, error)
            if self._instruments is not None:
                failed = {} if error is None else {ERROR: type(error).__qualname__}
                self._instruments.took(what, seconds, {**about, **failed})
                if what == "stop" or (what == "app" and error is not None):
                    self._instruments.remove(self)

        return end

    def _span(self, what: What, name: str, about: dict[str, str]) -> Span | None:
        if self._tracer is None:
            return None
        parent = None  # what is current: for a resource's start, that of its app
        if what == "check":  # it is run in the background, for as long as the app runs
            parent = context.Context()
        elif what == "close" and self._whole is not None:  # what is current there is the start
            parent = trace.set_span_in_context(self._whole)
        verb = {"app": "start", "stop": "close"}.get(what, what)
        span = self._tracer.start_span(f"{verb} {name or 'app'}", parent, attributes=about)
        if what in {"app", "stop"}:
            self._whole = span
        return span

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Record a wait for a connection that came, and count one that was too long."""
        if self._instruments is None:
            return
        if error is None:
            self._instruments.waits.record(seconds, {POOL: pool})
        elif isinstance(error, PoolExhausted):
            self._instruments.timeouts.add(1, {POOL: pool})

    def used(self, pool: str, seconds: float) -> None:
        """Record a use."""
        if self._instruments is not None:
            self._instruments.uses.record(seconds, {POOL: pool})

    def ready(self) -> Observations:
        """Observe how long the start took."""
        seconds = self._application.lifetime.ready_seconds
        if seconds is not None:
            yield Observation(seconds, {APP: self._app})

    def states(self) -> Observations:
        """Observe 1 for the state in which a resource is, and 0 for the others."""
        for node, tenant in self._application.lifetime.tenants.items():
            for state in STATES:
                yield Observation(int(tenant.state == state), {**self._about(node), STATE: state})

    def health(self) -> Observations:
        """Observe the last result of each check."""
        for node, checks in self._checks().items():
            for check in checks:
                if check.status in HEALTH:
                    yield Observation(HEALTH[check.status], {**self._about(node), CHECK: check.name})

    def _checks(self) -> dict[Node, list[CheckSnapshot]]:
        module = sys.modules.get("tenure.ops.operations")  # which who runs no checks has not imported
        if module is not None:
            for tenant in self._application.lifetime.tenants.values():
                if isinstance(tenant.value, module.Operations):
                    return cast("Operations", tenant.value).checks.told()
        return {}

    def connections(self) -> Observations:
        """Observe how many connections are in use, and how many are not."""
        for pool in self._application.observers.pools:
            stats = pool.stats
            yield Observation(stats.in_use, {POOL: pool.name, POOL_STATE: "used"})
            yield Observation(max(0, stats.open - stats.in_use), {POOL: pool.name, POOL_STATE: "idle"})

    def most(self) -> Observations:
        """Observe how many connections there may be."""
        for pool in self._application.observers.pools:
            yield Observation(pool.stats.size, {POOL: pool.name})

    def pending(self) -> Observations:
        """Observe how many borrowers wait."""
        for pool in self._application.observers.pools:
            yield Observation(pool.stats.waiting, {POOL: pool.name})

    def versions(self) -> Observations:
        """Observe which version of each model is called."""
        for about, share in self._shares():
            yield Observation(1, {**about, VERSION: share.version})

    def models(self, measure: Measure) -> Observations:
        """Observe one measure of each model."""
        for about, share in self._shares():
            yield Observation(measure.of(share), about)

    def _shares(self) -> Iterator[tuple[dict[str, str], ModelStats]]:
        """Give what is for this worker to tell of models: each process has a stream of its own, and they are added."""
        for node, tenant in self._application.lifetime.tenants.items():
            share = tenant.value.share if isinstance(tenant.value, Model) else None
            if share is not None and not share.is_away:
                yield {APP: self._app, MODEL: node.name, SCOPE: node.lifetime() or ""}, share

    def _about(self, node: Node) -> dict[str, str]:
        return {APP: self._app, RESOURCE: self._ids[node], SCOPE: node.lifetime() or ""}


def _end(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute(ERROR, type(error).__qualname__)
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, f"{type(error).__qualname__}: {error}")
    span.end()
