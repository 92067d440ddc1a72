"""Probes are left out of traces and access logs by one object, whoever writes these."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tenure import lifespan
from tenure.ops import ProbeFilter, metrics_router, ops_router
from tests.ports import free_port
from tests.telemetry.keeping import Kept

PROJECT = Path(__file__).parents[2]
DEADLINE = 40
PROBES = ["/livez", "/readyz", "/readyz/database", "/metrics", "/ops", "/ops/graph.json", "/ops/health"]
OTHERS = ["/", "/livezz", "/users/livez", "/operators", "/ops-team", "/metricsfoo"]


@pytest.mark.parametrize("root_path", ["", "/behind"])
def test_fastapi_traces_no_probe(root_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `FastAPI(telemetry={"exclude": …})` is asked of has neither a span nor a part in the metrics of requests."""
    monkeypatch.setenv("FASTAPI_ENV", "development")
    kept = Kept()
    telemetry = {**kept.telemetry, "operation_spans": False, "exclude": ProbeFilter()}
    app = FastAPI(lifespan=lifespan, telemetry=telemetry)
    app.include_router(ops_router())
    app.include_router(metrics_router())

    @app.get("/{rest:path}")
    async def other(rest: str) -> str:
        return rest

    with TestClient(app, root_path=root_path) as client:
        for path in [*PROBES, *OTHERS]:
            client.get(f"{root_path}{path}")
    (span,) = (span for name, span in kept.spans.items() if name.startswith("GET"))
    (point,) = kept.points("http.server.request.duration")
    assert point.count == len(OTHERS)
    assert point.attributes["http.route"] == (span.attributes or {})["http.route"] == f"{root_path}/{{rest}}"


def test_the_instrumentation_by_opentelemetry_leaves_them_out() -> None:
    """It searches the whole URL for what it is given, after it has split that at commas."""
    excluded = ProbeFilter().excluded_urls
    assert "," not in excluded
    assert all(re.search(excluded, f"https://shop.example:8443{path}") for path in PROBES)
    assert not any(re.search(excluded, f"https://shop.example:8443{path}") for path in OTHERS)
    own = ProbeFilter("/status", prefix="/a.b").excluded_urls
    assert re.search(own, "http://livez/a.b/status")
    assert not re.search(own, "http://livez/a-b/status")
    assert not re.search(own, "http://livez/livez")


def test_uvicorn_logs_no_probe(tmp_path: Path) -> None:
    """Its access log has the other requests, with their queries."""
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("uvicorn"), "tests.telemetry.logged:app", f"--port={port}"],
            cwd=PROJECT,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "FASTAPI_ENV": "development"},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while "Uvicorn running on" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for path in PROBES:
                assert client.get(f"/internal{path}?verbose=1").status_code in {200, 404}
            assert client.get("/somebody?q=1").status_code == 200
            assert client.get("/livez").status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(DEADLINE)
    assert re.findall(r'"GET (\S+)', log.read_text()) == ["/somebody?q=1", "/livez"]
