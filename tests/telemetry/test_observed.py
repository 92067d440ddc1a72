"""What OpenTelemetry is told of an app: spans and metrics, by way of a real SDK that keeps them in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from opentelemetry import trace

from tenure import lifespan, running, scoped
from tenure.errors import StartFailed
from tenure.ops import ops_router
from tests.telemetry.keeping import Kept


@pytest.fixture
def kept() -> Kept:
    """Give a fresh place for telemetry."""
    return Kept()


@scoped("app")
async def settings() -> str:
    """Be needed."""
    return "settings"


@scoped("app")
async def pool(settings: Annotated[str, Depends(settings)]) -> AsyncIterator[str]:
    """Open something, with a span of the program's own."""
    with trace.get_tracer("program", tracer_provider=kept_now[0].tracer_provider).start_as_current_span("connect"):
        await asyncio.sleep(0)
    yield f"pool of {settings}"
    with trace.get_tracer("program", tracer_provider=kept_now[0].tracer_provider).start_as_current_span("disconnect"):
        await asyncio.sleep(0)


kept_now: list[Kept] = []


def app_of(kept: Kept, *also: Any, **telemetry: Any) -> FastAPI:
    """Make an app whose telemetry is kept."""
    kept_now[:] = [kept]
    return FastAPI(title="shop", lifespan=lifespan(also=also), telemetry={**kept.telemetry, **telemetry})


async def test_starts_and_closes_are_spans_below_those_of_their_app(kept: Kept) -> None:
    """A resource's span is a child of its app's, at start and close, and the parent of what is done in it."""
    async with running(app_of(kept, pool)):
        assert kept.spans["start app"].attributes == {"tenure.app": "shop"}
        assert kept.spans["start pool"].attributes == {
            "tenure.app": "shop",
            "tenure.resource": "pool",
            "tenure.scope": "app",
        }
    assert [kept.parent(f"start {name}") for name in ("app", "settings", "pool")] == [None, "start app", "start app"]
    assert [kept.parent(f"close {name}") for name in ("app", "settings", "pool")] == [None, "close app", "close app"]
    assert kept.parent("connect") == "start pool"
    assert kept.parent("disconnect") == "close pool"
    assert not any(span.status.status_code == trace.StatusCode.ERROR for span in kept.spans.values())


async def test_a_start_that_fails_is_an_error_with_its_exception(kept: Kept) -> None:
    """Its span and its app's say why, and nothing of an app that did not start is observed."""

    @scoped("app")
    async def broken() -> None:
        msg = "no such host"
        raise OSError(msg)

    with pytest.raises(StartFailed):
        async with running(app_of(kept, broken)):
            pass
    span = kept.spans["start broken"]
    assert span.status.status_code == trace.StatusCode.ERROR
    assert span.status.description == "OSError: no such host"
    assert [event.name for event in span.events] == ["exception"]
    assert kept.spans["start app"].status.status_code == trace.StatusCode.ERROR
    (point,) = kept.points("tenure.resource.start.duration")
    assert (point.count, point.attributes["error.type"]) == (1, "OSError")
    assert kept.points("tenure.resource.state") == []


async def test_states_and_durations_are_metrics_until_the_app_has_closed(kept: Kept) -> None:
    """A running app's resources are observed, one state each; of one that has closed only what was counted is left."""
    async with running(app_of(kept, pool)):
        states = {
            point.attributes["tenure.state"]: point.value
            for point in kept.points("tenure.resource.state")
            if point.attributes["tenure.resource"] == "pool"
        }
        assert {state for state, value in states.items() if value} == {"ready"}
        assert len(states) == 6
        (ready,) = kept.points("tenure.app.ready.duration")
        assert 0 < ready.value < 60
        assert sorted(p.attributes["tenure.resource"] for p in kept.points("tenure.resource.start.duration")) == [
            "pool",
            "settings",
        ]
    assert kept.points("tenure.resource.state") == []
    assert kept.points("tenure.app.ready.duration") == []
    assert {point.count for point in kept.points("tenure.resource.close.duration")} == {1}


async def test_two_apps_of_one_process_are_told_apart(kept: Kept) -> None:
    """Each app's points bear its title, and when one closes the other's stay."""
    other = FastAPI(title="stock", lifespan=lifespan(also=[settings]), telemetry=kept.telemetry)
    async with running(other):
        async with running(app_of(kept, settings)):
            assert {point.attributes["tenure.app"] for point in kept.points("tenure.app.ready.duration")} == {
                "shop",
                "stock",
            }
        assert [point.attributes["tenure.app"] for point in kept.points("tenure.app.ready.duration")] == ["stock"]


async def test_checks_are_traces_of_their_own_and_health_a_metric(kept: Kept) -> None:
    """A check's span has no parent, what runs in it is a child, and its last result is observed."""
    looked = asyncio.Event()

    @scoped("app")
    async def cache() -> str:
        return "cache"

    @cache.health
    async def look(value: str) -> bool:
        with trace.get_tracer("program", tracer_provider=kept.tracer_provider).start_as_current_span("ping"):
            looked.set()
        return value == "nothing like it"

    app = app_of(kept, cache)
    app.include_router(ops_router())
    async with running(app):
        async with asyncio.timeout(20):
            await looked.wait()
            while not (points := kept.points("tenure.resource.health")):
                await asyncio.sleep(0.01)
        (point,) = points
        assert (point.value, point.attributes["tenure.resource"]) == (0, "cache")
        (took,) = kept.points("tenure.resource.check.duration")
        name = point.attributes["tenure.check"]
        assert (took.count, took.attributes["tenure.check"]) == (1, name)
        assert (kept.parent(f"check {name}"), kept.parent("ping")) == (None, f"check {name}")


async def test_what_fastapi_is_told_not_to_do_is_not_done(kept: Kept) -> None:
    """`FastAPI(telemetry=…)` switches spans or metrics of the app off for tenure too."""
    async with running(app_of(kept, settings, tracing=False)):
        assert kept.spans == {}
        assert kept.points("tenure.resource.state")
    quiet = Kept()
    async with running(app_of(quiet, settings, metrics=False)):
        assert quiet.points("tenure.resource.state") == []
    assert "start settings" in quiet.spans


GLOBAL = """
import asyncio
from fastapi import FastAPI
from tenure import lifespan, running, scoped

@scoped("app")
async def early() -> str:
    return "early"

app, other = (FastAPI(title=title, lifespan=lifespan(also=[early])) for title in ("one", "two"))

async def main():
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    async with running(app):  # before there is a provider
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
        async with running(other):  # after
            [of_resource] = reader.get_metrics_data().resource_metrics
            for metric in of_resource.scope_metrics[0].metrics:
                if metric.name == "tenure.app.ready.duration":
                    print(*sorted(point.attributes["tenure.app"] for point in metric.data.data_points))
    print(*(span.name for span in spans.get_finished_spans()))

asyncio.run(main())
"""
WITHOUT = """
import asyncio, sys
import fastapi  # which needs it for itself, from the version that has telemetry

sys.modules["opentelemetry.metrics"] = None
from tenure import running, scoped

@scoped("app")
async def early() -> str:
    return "early"

async def main():
    async with running(also=[early]) as scope:
        print(await scope.get(early))

asyncio.run(main())
"""


def test_providers_may_be_set_after_the_import_and_after_the_first_start() -> None:
    """What the program sets before an app starts has its spans; metrics come as soon as there is a provider."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", GLOBAL], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["one two", "start early start app close early close app close early close app"]


def test_an_app_runs_without_the_api() -> None:
    """Where OpenTelemetry's API cannot be imported, nothing is told, and all else is as it is."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT], check=True, capture_output=True, text=True)
    assert done.stdout == "early\n"
