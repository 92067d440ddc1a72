"""`metrics_router`: metrics of all workers of this machine, for Prometheus, from whichever of them it asks."""

from __future__ import annotations

import logging
from functools import cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, HTTPException, Response

from tenure.belonging import starting_app
from tenure.errors import MissingExtra
from tenure.ops.operations import Operations, Reading, operations
from tenure.ops.reports import NOT_STORED
from tenure.pools.errors import PoolExhausted
from tenure.threads import in_spare_worker

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import choose_encoder

    from tenure.ops.families import POOL, Merged, families_of, shared_families_of, written
except ModuleNotFoundError as missing:
    _message = "metrics for Prometheus need prometheus-client, which is not installed"
    raise MissingExtra(_message, hint="pip install 'tenure[prometheus]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.core import Metric

    from tenure.fastapi.application import Application
    from tenure.observers import End, What
    from tenure.ops.workers import Answer

logger = logging.getLogger("tenure")

QUESTION = "metrics"
LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds of the buckets for what happens in the background, in seconds."""
SHORT = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The same for what each request may do."""


class Metrics:
    """
    What one worker measures of one app, and what it knows of the others' measurements.

    Args:
        operations: What answers for the app.
        application: The app.
    """

    def __init__(self, operations: Operations, application: Application) -> None:
        self._operations = operations
        self._observers = application.observers
        self._registry = registry = CollectorRegistry()
        waits = Histogram(
            "db_client_connection_wait_time_seconds",
            "The time it took to obtain an open connection from the pool.",
            [POOL],
            registry=registry,
            buckets=SHORT,
        )
        uses = Histogram(
            "db_client_connection_use_time_seconds",
            "The time between borrowing a connection and returning it to the pool.",
            [POOL],
            registry=registry,
            buckets=SHORT,
        )
        self._timeouts = Counter(
            "db_client_connection_timeouts", "Borrowers that had no connection in time.", [POOL], registry=registry
        )
        self._checks = Histogram(
            "tenure_resource_check_duration_seconds",
            "How long a health check took.",
            ["check"],
            registry=registry,
            buckets=LONG,
        )
        self._waits_of, self._uses_of = cache(waits.labels), cache(uses.labels)
        application.observers.add(self)
        operations.workers.learn(QUESTION, self._told)

    def begin(self, what: What, name: str, scope: str) -> End:
        """Measure a check."""
        del scope
        began = perf_counter()

        def end(error: BaseException | None) -> None:
            del error
            if what == "check":
                self._checks.labels(name).observe(perf_counter() - began)

        return end

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Measure a wait."""
        if error is None:
            self._waits_of(pool).observe(seconds)
        elif isinstance(error, PoolExhausted):
            self._timeouts.labels(pool).inc()

    def used(self, pool: str, seconds: float) -> None:
        """Measure a use."""
        self._uses_of(pool).observe(seconds)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Give what all workers tell, in the format that is accepted best, and its media type."""
        answers = await self._operations.workers.ask(QUESTION)
        shared = shared_families_of(self._operations.snapshot())
        return await in_spare_worker(partial(_exposed, answers, shared, accept))

    async def _told(self) -> bytes:
        """Tell of this worker; in a thread, as collectors of the process's registry read files."""
        families = families_of(self._operations.snapshot(), self._observers.pools)
        for pool in self._observers.pools:
            self._timeouts.labels(pool.name)  # so that it is 0 before it counts
        return await in_spare_worker(partial(self._collected, families))

    def _collected(self, families: list[Metric]) -> bytes:
        own = [*families, *self._registry.collect()]
        names = {family.name for family in own}
        try:
            others = [family for family in REGISTRY.collect() if family.name not in names]
        except Exception:
            logger.exception(
                "a collector of the process's metrics failed: none of them are told",
                extra={"tenure_event": "collector-failed"},
            )
            others = []
        return written([*own, *others])


def _exposed(answers: list[Answer], shared: list[Metric], accept: str) -> tuple[bytes, str]:
    merged, workers = Merged(), dict[int, bool]()
    for answer in answers:
        try:
            merged.read(answer.content or b"", answer.worker)
        except ValueError:
            workers[answer.worker] = False
        else:
            workers[answer.worker] = True
    merged.up(workers)
    merged.add(shared)
    encode, media_type = choose_encoder(accept)
    return encode(cast("Any", merged)), media_type


async def _metrics(operations: Annotated[Operations, Depends(operations)]) -> Metrics:
    return Metrics(operations, cast("Application", starting_app()))


metrics: Reading[Metrics] = Reading(_metrics, scope="app", name="prometheus")


def metrics_router(path: str = "/metrics", *, guard: Callable[..., Any] | None = None) -> APIRouter:
    """
    Give the route that Prometheus scrapes; include it, ``app.include_router(metrics_router())``.

    Whichever worker is asked, it tells of all workers of the app on this machine, each with the label `worker`, the
    worker's number: of what tenure knows, and of all that is in `prometheus_client`'s own registry.

    Args:
        path: Where it is.
        guard: A dependency that refuses, by raising an `HTTPException`, who may not read it. A sync one needs a
            thread, as a sync handler does: a scrape while all are busy needs an async one.

    Raises:
        MissingExtra: `prometheus_client` is not installed.
    """
    router = APIRouter(include_in_schema=False, dependencies=[Depends(guard)] if guard is not None else [])

    @router.get(path)
    async def scraped(
        reader: Annotated[Metrics | None, Depends(metrics)], accept: Annotated[str, Header()] = ""
    ) -> Response:
        """Tell of all workers of this machine."""
        if reader is None:
            raise HTTPException(503, "the app does not run", {"Retry-After": "1"})
        content, media_type = await reader.exposition(accept)
        return Response(content, headers={**NOT_STORED, "Content-Type": media_type})

    return router
