"""What is told of models, to OpenTelemetry and to Prometheus alike: each measure once, with how it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from tenure.models.handle import ModelStats
    from tenure.ops.snapshot import ModelSnapshot

Kind = Literal["amount", "gauge", "counter"]


class Measure(NamedTuple):
    """
    One measure of a model.

    Attributes:
        name: As OpenTelemetry has it.
        kind: An amount that may be added up, another that may rise and fall, or what only grows.
        unit: Of what it is.
        field: Which of a model's statistics it is.
        description: What it says.
    """

    name: str
    kind: Kind
    unit: str
    field: str
    description: str

    @property
    def family(self) -> str:
        """Its name as OpenTelemetry's exporters spell it for Prometheus, without the suffix of a counter."""
        return self.name.replace(".", "_") + ("_seconds" if self.unit == "s" else "")

    def of(self, stats: ModelStats | ModelSnapshot) -> float:
        """Read it."""
        found: float = getattr(stats, self.field)
        return found


INFO = "tenure.model.info"
ABOUT_INFO = "1 for the version of a model that is called."

MEASURES = (
    Measure("tenure.model.queue.size", "amount", "{item}", "waiting", "Items that wait to be computed."),
    Measure("tenure.model.queue.max", "amount", "{item}", "max_queue", "How many items may wait."),
    Measure("tenure.model.batch.running", "amount", "{batch}", "running", "Batches that are computed now."),
    Measure("tenure.model.load.duration", "gauge", "s", "load_seconds", "How long it took to load, warm up and check."),
    Measure("tenure.model.served", "counter", "{item}", "served", "Items that have a result."),
    Measure("tenure.model.failed", "counter", "{item}", "failed", "Items for which the model raised an error."),
    Measure("tenure.model.refused", "counter", "{item}", "refused", "Items that were not let in: the queue was full."),
    Measure("tenure.model.dropped", "counter", "{item}", "dropped", "Items whose caller did not wait for them."),
    Measure("tenure.model.late", "counter", "{item}", "late", "Items whose caller could wait no longer."),
    Measure("tenure.model.batches", "counter", "{batch}", "batches", "Batches that were begun."),
    Measure("tenure.model.batch.items", "counter", "{item}", "items", "Items in these batches."),
    Measure("tenure.model.batch.duration", "counter", "s", "busy_seconds", "How long batches took, all together."),
    Measure("tenure.model.wait.duration", "counter", "s", "wait_seconds", "How long items waited, all together."),
    Measure("tenure.model.swaps", "counter", "{swap}", "swaps", "How often it was swapped."),
)
