"""FastAPI's own telemetry, from the version that has it: what binding must leave as it is."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.telemetry import get_telemetry_data
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tenure import lifespan, scoped


class Pool:
    """Something that is opened once, and compared by what it is."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pool)

    __hash__ = None  # type: ignore[assignment]


@scoped("app")
async def pool() -> Pool:
    """Open it."""
    return Pool()


@scoped("function")
async def connection(pool: Annotated[Pool, Depends(pool)]) -> AsyncIterator[str]:
    """Borrow from it."""
    yield "connection"


async def caller(connection: Annotated[str, Depends(connection)], caller: Annotated[int, Header()]) -> int:
    """Tell who calls."""
    if caller == 0:
        raise HTTPException(403)
    return caller


async def index(
    pool: Annotated[Pool, Depends(pool)],
    connection: Annotated[str, Depends(connection)],
    caller: Annotated[int, Depends(caller)],
    number: int,
) -> list[object]:
    """Answer with what is plain."""
    return [connection, caller, 10 // number]


def traced() -> tuple[list[Any], list[Any]]:
    """Send four requests: give the spans that they leave, and what a processor can see of each request."""
    exporter, provider, seen = InMemorySpanExporter(), TracerProvider(), []

    class Noting(SpanProcessor):
        def on_end(self, span: Any) -> None:
            data = get_telemetry_data()
            seen.append((span.name, data and data.values, data and data.errors))

    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(Noting())
    app = FastAPI(lifespan=lifespan, telemetry={"tracer_provider": provider})
    app.add_api_route("/{number}", index)
    with TestClient(app, raise_server_exceptions=False) as client:
        for path, caller in [("/5", "1"), ("/0", "1"), ("/none", "1"), ("/5", "0"), ("/5", "none")]:
            client.get(path, headers={"caller": caller})
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    return [
        (
            span.name,
            span.parent and names.get(span.parent.span_id),
            dict(span.attributes or {}),
            span.status.status_code,
            [event.name for event in span.events],
        )
        for span in spans
    ], seen


def test_spans_are_the_same_bound_and_unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, order, nesting and attributes of spans, and the values and errors that a processor sees, do not tell."""
    bound = traced()
    monkeypatch.setenv("TENURE_BINDING", "off")
    assert bound == traced()
    assert {name for name, *_ in bound[0]} >= {"GET /{number}", "fastapi.dependencies", "fastapi.endpoint"}
    assert ("connection", 1) in [
        (values["connection"], values["caller"]) for _, values, errors in bound[1] if values and not errors
    ]
