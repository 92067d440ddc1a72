"""prometheus_client in multiprocess mode: each process counts in a mapped file; who reads opens all and adds up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.state.subject import Counting

NAME = "prometheus_client"


def counting() -> Counting:
    """Count in the folder that `PROMETHEUS_MULTIPROC_DIR` names, as it did when this was imported."""
    counter = Counter("requests", "Requests of all processes", registry=CollectorRegistry())
    collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # a gap in its types

    def value() -> float:
        (metric,) = collector.collect()
        (sample,) = metric.samples
        return float(sample.value)

    return Counting(NAME, counter.inc, value, counter.inc)
