"""Families of Prometheus's samples: those that tell of one worker, handed to another, and merged by it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.samples import Exemplar, Sample

from tenure.lifetimes import State
from tenure.ops.models import ABOUT_INFO, INFO, MEASURES
from tenure.scopes import SCOPES, is_shared, outlives_requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tenure.observers import Pooled
    from tenure.ops.snapshot import NodeSnapshot, Snapshot

STATES: tuple[str, ...] = get_args(State)
HEALTH = {"pass": 1.0, "warn": 0.5, "fail": 0.0}
LASTING = frozenset(scope for scope in SCOPES if outlives_requests(scope))
SHARED = frozenset(scope for scope in SCOPES if is_shared(scope))
WORKER = "worker"
POOL, POOL_STATE = "db_client_connection_pool_name", "db_client_connection_state"
"""As OpenTelemetry's exporters spell what the semantic conventions have."""


def families_of(snapshot: Snapshot, pools: Iterable[Pooled]) -> list[Metric]:
    """Tell of one worker, as it is."""
    ready = GaugeMetricFamily("tenure_app_ready_duration_seconds", "How long it took until all was ready.")
    if snapshot.ready_seconds is not None:
        ready.add_metric([], snapshot.ready_seconds)
    started = [node for node in snapshot.nodes if node.scope in LASTING]
    own = [node for node in started if node.scope not in SHARED]
    return [ready, *_resources(started), *_pools(pools), *_counters(own), *_models(own)]


def shared_families_of(snapshot: Snapshot) -> list[Metric]:
    """Tell what all workers share, and one may tell for all."""
    shared = [node for node in snapshot.nodes if node.scope in SHARED]
    return [*_counters(shared), *_models(shared)]


def _resources(nodes: list[NodeSnapshot]) -> list[Metric]:
    labels = ["resource", "scope"]
    states = GaugeMetricFamily(
        "tenure_resource_state", "1 for the state in which a resource is, 0 for the others.", labels=[*labels, "state"]
    )
    health = GaugeMetricFamily(
        "tenure_resource_health", "Of a check: 1 if all is well, 0.5 a warning, 0 a failure.", labels=[*labels, "check"]
    )
    starts = GaugeMetricFamily("tenure_resource_start_seconds", "How long a resource took to start.", labels=labels)
    for node in nodes:
        about = [node.id, str(node.scope)]
        current = "ready" if node.state == "degraded" else node.state  # which is for its health to say
        for state in STATES:
            states.add_metric([*about, state], int(state == current))
        for check in node.checks:
            if check.status in HEALTH:
                health.add_metric([*about, check.name], HEALTH[check.status])
        if node.start_seconds is not None:
            starts.add_metric(about, node.start_seconds)
    return [states, health, starts]


def _pools(pools: Iterable[Pooled]) -> list[Metric]:
    count = GaugeMetricFamily(
        "db_client_connection_count", "Connections of a pool, by their state.", labels=[POOL, POOL_STATE]
    )
    most = GaugeMetricFamily("db_client_connection_max", "How many connections a pool may have.", labels=[POOL])
    pending = GaugeMetricFamily(
        "db_client_connection_pending_requests", "Borrowers that wait for a connection.", labels=[POOL]
    )
    killed = CounterMetricFamily("tenure_pool_killed", "Connections that could not be given back.", labels=["pool"])
    leaked = CounterMetricFamily("tenure_pool_leaked", "Connections that were out for too long.", labels=["pool"])
    for pool in pools:
        name, stats = pool.name, pool.stats
        count.add_metric([name, "used"], stats.in_use)
        count.add_metric([name, "idle"], max(0, stats.open - stats.in_use))
        most.add_metric([name], stats.size)
        pending.add_metric([name], stats.waiting)
        killed.add_metric([name], stats.killed)
        leaked.add_metric([name], stats.leaked)
    return [count, most, pending, killed, leaked]


def _counters(nodes: list[NodeSnapshot]) -> list[Metric]:
    values = GaugeMetricFamily("tenure_counter_value", "The value of a Counter.", labels=["counter", "scope"])
    for node in nodes:
        if node.count is not None:
            values.add_metric([node.name, str(node.scope)], node.count)
    return [values]


def _models(nodes: list[NodeSnapshot]) -> list[Metric]:
    """Tell of models; of one whose process is away nothing, rather than what is no longer so."""
    labels = ["model", "scope"]
    info = GaugeMetricFamily(INFO.replace(".", "_"), ABOUT_INFO, labels=[*labels, "version"])
    families: list[Metric] = [info]
    told = [([node.name, str(node.scope)], node.model) for node in nodes if node.model and not node.model.is_away]
    for about, model in told:
        info.add_metric([*about, model.version], 1)
    for measure in MEASURES:
        kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
        family = kind(measure.family, measure.description, labels=labels)
        for about, model in told:
            family.add_metric(about, measure.of(model))
        families.append(family)
    return families


def written(families: Iterable[Metric]) -> bytes:
    """Write families down for another process, with their exemplars, which Prometheus's text format loses."""
    return json.dumps(
        [
            [each.name, each.documentation, each.type, each.unit, [_told(sample) for sample in each.samples]]
            for each in families
        ]
    ).encode()


def _told(sample: Sample) -> list[Any]:
    exemplar = sample.exemplar
    return [
        sample.name,
        sample.labels,
        sample.value,
        None if sample.timestamp is None else float(sample.timestamp),
        exemplar and [exemplar.labels, exemplar.value, exemplar.timestamp and float(exemplar.timestamp)],
    ]


class Merged:
    """What `prometheus_client` writes out in the place of a registry: the families of several workers, each once."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def collect(self) -> list[Metric]:
        """Give the families."""
        return [family for family in self._families.values() if family.samples]

    def add(self, families: Iterable[Metric]) -> None:
        """Add families as they are."""
        for family in families:
            self._family(family.name, family.documentation, family.type, family.unit).samples += family.samples

    def read(self, content: bytes, worker: int) -> None:
        """
        Add what another worker has written, with a label that says which.

        Raises:
            ValueError: It is nothing of the kind, as another version of the program may say it otherwise.
        """
        try:
            for name, documentation, kind, unit, samples in json.loads(content):
                family = self._family(name, documentation, kind, unit)
                if family.type == kind:
                    family.samples += [_labelled(*sample, worker=worker) for sample in samples]
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error

    def up(self, workers: Mapping[int, bool]) -> None:
        """Add which workers have answered."""
        family = GaugeMetricFamily("tenure_worker_up", "Whether a worker of this machine answers.", labels=[WORKER])
        for worker, has_answered in sorted(workers.items()):
            family.add_metric([str(worker)], int(has_answered))
        self.add([family])

    def _family(self, name: str, documentation: str, kind: str, unit: str) -> Metric:
        return self._families.setdefault(name, Metric(name, documentation, kind, unit))


def _labelled(  # noqa: PLR0913 (as `_told` has them)
    name: str,
    labels: dict[str, str],
    value: float,
    timestamp: float | None,
    exemplar: list[Any] | None,
    *,
    worker: int,
) -> Sample:
    if WORKER in labels:  # the program's own: Prometheus, too, gives way so
        free = f"exported_{WORKER}"
        while free in labels:
            free = f"exported_{free}"
        labels = {free if label == WORKER else label: said for label, said in labels.items()}
    return Sample(name, {**labels, WORKER: str(worker)}, value, timestamp, Exemplar(*exemplar) if exemplar else None)
