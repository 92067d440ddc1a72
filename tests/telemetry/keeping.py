"""Where a test keeps what an app tells OpenTelemetry."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Kept:
    """What an app's telemetry goes to."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader])
        self.telemetry: dict[str, Any] = {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
        }

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The spans that have ended, by name."""
        return {span.name: span for span in self._spans.get_finished_spans()}

    def parent(self, name: str) -> str | None:
        """Give the name of a span's parent."""
        names = {span.context.span_id: span.name for span in self.spans.values()}
        parent = self.spans[name].parent
        return names[parent.span_id] if parent else None

    def points(self, metric: str) -> list[Any]:
        """Collect the points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for of_resource in (data.resource_metrics if data else [])
            for of_scope in of_resource.scope_metrics
            for each in of_scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]
