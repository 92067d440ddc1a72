"""What Prometheus scrapes: of all workers of a machine, from whichever is asked, and never of one that is gone."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter as Multiset
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import prometheus_client
import pytest
from fastapi import Depends, FastAPI, HTTPException, Query
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read
from prometheus_client.samples import Sample

from tenure import Resource, lifespan, scoped
from tenure.ops import metrics_router, ops_router
from tests.ops.asking import answer_of, client_of, served
from tests.ops.test_workers import DEADLINE, STEP, serving

if TYPE_CHECKING:
    from collections.abc import Generator

    from prometheus_client.core import Metric

WORKERS = 3
SCRAPE = 10.0
"""Seconds that Prometheus waits for a scrape unless told otherwise."""


# --- under a server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the app in three workers, as in production, and give its URL."""
    folder = tmp_path_factory.mktemp("scraped") / "shared"
    folder.mkdir(mode=0o700)
    with serving(folder, workers=WORKERS, program="tests.ops.scraped:app", FASTAPI_ENV="production", DSN=dsn) as url:
        yield url


ANYONE = httpx.Client(timeout=SCRAPE, limits=httpx.Limits(max_keepalive_connections=0))
"""A connection of its own for each request, so that any worker may answer."""


def text_of(url: str) -> str:
    """Scrape once."""
    return ANYONE.get(f"{url}/metrics").raise_for_status().text


def samples_of(text: str) -> dict[str, list[Sample]]:
    """Give what was scraped, as the parser of `prometheus_client` reads it, by the name of the samples."""
    found: dict[str, list[Sample]] = {}
    for family in read(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def values(samples: dict[str, list[Sample]], name: str, label: str = "worker") -> dict[str, float]:
    """Give the values of a sample by one of its labels."""
    return {sample.labels[label]: sample.value for sample in samples.get(name, [])}


def until(url: str, condition: Callable[[dict[str, list[Sample]]], bool]) -> dict[str, list[Sample]]:
    """Scrape until what is told is as it should be."""
    deadline, told = time.monotonic() + DEADLINE, dict[str, list[Sample]]()
    while time.monotonic() < deadline:
        try:
            told = samples_of(text_of(url))
        except httpx.TransportError:
            told = {}
        if condition(told):
            return told
        time.sleep(STEP)
    pytest.fail(f"still {told}")


def are_up(told: dict[str, list[Sample]]) -> bool:
    """Tell whether all workers answer, and have started."""
    up = {str(number): 1.0 for number in range(WORKERS)}
    return values(told, "tenure_worker_up") == up and values(told, "db_client_connection_max").keys() == up.keys()


def do_jobs(url: str) -> dict[int, int]:
    """Do jobs until each worker has done some, and give how many each process has done."""
    until(url, are_up)
    done: Multiset[int] = Multiset()
    deadline = time.monotonic() + DEADLINE
    while len(done) < WORKERS or sum(done.values()) < 30:
        assert time.monotonic() < deadline, done
        done[ANYONE.post(f"{url}/jobs").raise_for_status().json()] += 1
    return dict(done)


@contextmanager
def load(url: str) -> Generator[None]:
    """Let jobs be done for as long as the block lasts; those fail that were with a worker that dies."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                ANYONE.post(f"{url}/jobs")
            except httpx.TransportError:
                time.sleep(STEP)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_one_scrape_tells_of_all_workers(url: str) -> None:
    """Each worker's series bear its number, add up to what was done, and what all share is told once."""
    before = until(url, are_up)
    done = do_jobs(url)
    text = text_of(url)
    told = samples_of(text)
    types = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(types) == len(set(types))
    assert types == re.findall(r"^# HELP (\S+)", text, re.MULTILINE)
    series = [(sample.name, *sorted(sample.labels.items())) for found in told.values() for sample in found]
    assert len(series) == len(set(series))
    for name in ("process_resident_memory_bytes", "python_info", "tenure_app_ready_duration_seconds"):
        assert values(told, name).keys() == {"0", "1", "2"}

    assert set(values(told, "own_pid").values()) == set(done)
    assert {sample.labels["exported_worker"] for sample in told["jobs_total"]} == {"batch"}
    count = sum(done.values())
    assert sum(values(told, "jobs_total").values()) - sum(values(before, "jobs_total").values()) == count
    (shared,) = (sample for sample in told["tenure_counter_value"] if sample.labels["scope"] == "host")
    assert shared.labels == {"counter": "in all", "scope": "host"}
    own = [sample for sample in told["tenure_counter_value"] if sample.labels["scope"] == "app"]
    assert {sample.labels["worker"] for sample in own} == {"0", "1", "2"}
    assert shared.value >= sum(sample.value for sample in own) >= count

    assert values(told, "db_client_connection_max") == {"0": 2, "1": 2, "2": 2}
    assert values(told, "db_client_connection_timeouts_total") == {"0": 0, "1": 0, "2": 0}
    for name in ("db_client_connection_wait_time_seconds", "db_client_connection_use_time_seconds"):
        assert sum(values(told, f"{name}_count").values()) >= count
    ready = [sample.labels["worker"] for sample in told["tenure_resource_state"] if is_ready(sample, "database")]
    assert ready == ["0", "1", "2"]


def is_ready(sample: Sample, resource: str) -> bool:
    """Tell whether a sample says that a resource is ready."""
    return sample.labels["resource"] == resource and sample.labels["state"] == "ready" and sample.value == 1


def test_a_worker_that_is_killed_is_gone_at_the_next_scrape(url: str) -> None:
    """Under load: none of its series is left, and when its number is back its counters have begun anew."""
    do_jobs(url)
    told = until(url, are_up)
    number, pid = min((number, int(pid)) for number, pid in values(told, "own_pid").items())
    before = values(told, "jobs_total")
    with load(url):
        os.kill(pid, signal.SIGKILL)
        told = until(url, lambda told: True)  # at once, or of the next worker where the kernel gave us to this one
        assert pid not in values(told, "own_pid").values()
        assert values(told, "jobs_total").get(number, 0) < before[number]
        others = before.keys() - {number}
        assert all(values(told, "jobs_total")[other] >= before[other] for other in others)
        back = until(url, lambda told: are_up(told) and len(values(told, "own_pid")) == WORKERS)
    assert values(back, "own_pid")[number] != pid


def test_a_worker_that_is_stopped_costs_a_moment_and_is_told_as_down(url: str) -> None:
    """A scrape in which one does not answer has the others, within Prometheus's own time, and says so."""
    do_jobs(url)
    told = until(url, are_up)
    number, pid = max((number, int(pid)) for number, pid in values(told, "own_pid").items())
    os.kill(pid, signal.SIGSTOP)
    try:
        told = until(url, lambda told: values(told, "tenure_worker_up").get(number) == 0)
        assert number not in values(told, "own_pid")
        assert sum(values(told, "tenure_worker_up").values()) == WORKERS - 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert values(until(url, are_up), "own_pid")[number] == pid


# --- in this process --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an app of this process be the only worker of its machine, whatever runs beside the tests."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@scoped("app")
async def greeting() -> str:
    """Give something to tell of."""
    return "hello"


@pytest.fixture
def registered() -> Iterator[Callable[[Any], None]]:
    """Give what registers a collector of the process's own for a test."""
    collectors: list[Any] = []

    def register(collector: Any) -> None:
        prometheus_client.REGISTRY.register(collector)
        collectors.append(collector)

    yield register
    for collector in collectors:
        prometheus_client.REGISTRY.unregister(collector)


class Collector:
    """A collector of a program's own."""

    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> list[Metric]:
        """Say nothing beforehand."""
        return []

    def collect(self) -> list[Metric]:
        """Collect."""
        return self._collect()


def app_of(*also: Resource[Any], **words: Any) -> FastAPI:
    """Make an app that can be scraped."""
    app = FastAPI(lifespan=lifespan(also=also))
    app.include_router(metrics_router(**words))
    return app


async def test_open_metrics_are_given_to_who_accepts_them(registered: Callable[[Any], None]) -> None:
    """They are what the strict parser reads, exemplars and all."""
    jobs = prometheus_client.Counter("exemplary_jobs", "Jobs.", registry=None)
    registered(jobs)
    jobs.inc(exemplar={"trace_id": "1f"})
    async with served(app_of(greeting)) as client:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer = await client.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.headers["cache-control"] == "no-store"
        families = {family.name: family for family in read_open_metrics(answer.text)}
        assert families["tenure_worker_up"].samples[0].value == 1
        exemplars = [sample.exemplar.labels for sample in families["exemplary_jobs"].samples if sample.exemplar]
        assert exemplars == [{"trace_id": "1f"}]
        plain = await client.get("/metrics")
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_labels_of_the_program_give_way(registered: Callable[[Any], None]) -> None:
    """What a program calls `worker` is kept as `exported_worker`, as Prometheus itself has it."""

    def collect() -> list[Metric]:
        family = GaugeMetricFamily("labelled", "Labelled.", labels=["worker", "exported_worker"])
        family.add_metric(["mine", "also mine"], 7)
        return [family]

    registered(Collector(collect))
    async with served(app_of(greeting)) as client:
        (sample,) = samples_of((await client.get("/metrics")).text)["labelled"]
    assert sample.labels == {"worker": "0", "exported_worker": "also mine", "exported_exported_worker": "mine"}


async def test_a_family_that_another_exporter_has_as_well_is_told_once(registered: Callable[[Any], None]) -> None:
    """OpenTelemetry's exporter for Prometheus puts the same names into the process's registry: tenure's stand."""

    def collect() -> list[Metric]:
        family = GaugeMetricFamily("tenure_resource_state", "By another.", labels=["otel_scope_name"])
        family.add_metric(["tenure"], 1)
        return [family]

    registered(Collector(collect))
    async with served(app_of(greeting)) as client:
        told = samples_of((await client.get("/metrics")).text)
    assert all("otel_scope_name" not in sample.labels for sample in told["tenure_resource_state"])
    assert any(is_ready(sample, "greeting") for sample in told["tenure_resource_state"])


async def test_a_collector_that_fails_takes_the_processs_metrics_alone(
    registered: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """What tenure knows is told all the same, and the log says what failed."""

    def collect() -> list[Metric]:
        msg = "no such device"
        raise OSError(msg)

    async with served(app_of(greeting)) as client:
        registered(Collector(collect))
        with caplog.at_level(logging.ERROR, "tenure"):
            told = samples_of((await client.get("/metrics")).text)
    assert any(is_ready(sample, "greeting") for sample in told["tenure_resource_state"])
    assert "process_open_fds" not in told
    assert "no such device" in caplog.text


async def test_health_is_a_metric() -> None:
    """A check's last result and its time are told, by what was checked."""

    @scoped("app")
    async def cache() -> str:
        return "cache"

    @cache.health(every=0.05)
    async def answers(value: str) -> bool:
        return value == "nothing like it"

    async with served(app_of(cache)) as client:
        took = "tenure_resource_check_duration_seconds_count"
        answer = await answer_of(client, "/metrics", lambda answer: took in answer.text)
    told = samples_of(answer.text)
    (health,), (count,) = told["tenure_resource_health"], told[took]
    assert (health.labels["resource"], health.value) == ("cache", 0)
    assert count.labels["check"] == health.labels["check"]
    assert count.value >= 1
    assert any(is_ready(sample, "cache") for sample in told["tenure_resource_state"])  # which health says more of


async def refuse(token: str = Query("")) -> None:
    """Let in who knows the word."""
    if token != "open":  # noqa: S105 (no secret)
        raise HTTPException(401)


async def test_a_guard_stands_before_the_metrics() -> None:
    """Who may not read them is told what the guard raises; the path is as it was said."""
    async with served(app_of(greeting, path="/internal/metrics", guard=refuse)) as client:
        assert (await client.get("/internal/metrics")).status_code == 401
        assert (await client.get("/internal/metrics?token=open")).status_code == 200
        assert (await client.get("/metrics")).status_code == 404


async def test_metrics_are_below_ops_where_that_may_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ops_router` has them in development and with a guard; in production they are where the program puts them."""
    for environment, words, status in [
        ("development", {}, 200),
        ("production", {}, 404),
        ("production", {"guard": refuse}, 401),
    ]:
        monkeypatch.setenv("FASTAPI_ENV", environment)
        app = FastAPI(lifespan=lifespan(also=[greeting]))
        app.include_router(ops_router(**words), dependencies=[Depends(lambda: None)])
        async with served(app) as client:
            assert (await client.get("/ops/metrics")).status_code == status


async def test_an_app_that_does_not_run_is_not_scraped() -> None:
    """Before its start and after its close the answer is 503."""
    app = app_of(greeting)
    async with served(app) as client:
        assert (await client.get("/metrics")).status_code == 200
    async with client_of(app) as client:
        assert (await client.get("/metrics")).status_code == 503


def test_what_is_missing_is_said() -> None:
    """Without `prometheus_client` the router cannot be had, and the error says what to install."""
    code = "import sys; sys.modules['prometheus_client'] = None; from tenure.ops import metrics_router"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "error[missing-extra]" in done.stderr
    assert "pip install 'tenure[prometheus]'" in done.stderr


def test_other_routes_do_without_prometheus() -> None:
    """Where `prometheus_client` is not installed, `ops_router` has all but the metrics."""
    code = "import sys; sys.modules['prometheus_client'] = None; from tenure.ops import ops_router; ops_router()"
    environment = {**os.environ, "FASTAPI_ENV": "development"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
