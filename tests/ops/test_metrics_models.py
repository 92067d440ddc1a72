"""What Prometheus is told of models: by each worker of its own, and once of one that all of them call."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as read

from tenure.ops.models import MEASURES
from tests.ops.pages.servers import DEADLINE, PROJECT
from tests.ops.predicted import MOST_WAITING, WORKERS, Predicting, models_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.samples import Sample


@pytest.fixture
def predicting() -> Iterator[Predicting]:
    """The app with models."""
    with Predicting() as server:
        yield server


def scraped(server: Predicting, model: str) -> dict[str, list[Sample]]:
    """Scrape whichever worker the kernel gives, and give a model's samples by name."""
    found: dict[str, list[Sample]] = {}
    for family in read(httpx.get(f"{server.url}/metrics", timeout=DEADLINE).raise_for_status().text):
        for sample in family.samples:
            if sample.labels.get("model") == model:
                found.setdefault(sample.name, []).append(sample)
    return found


def values(samples: dict[str, list[Sample]], name: str) -> list[float]:
    """Give the values of a sample."""
    return [sample.value for sample in samples[name]]


def test_a_model_of_all_workers_is_scraped_once(predicting: Predicting) -> None:
    """Its series bear no worker, whichever is asked; those of a model that each has loaded do, and add up."""
    embedded, scored = predicting.ask_each("/embed/3", 3), predicting.ask_each("/score/3", 3)
    predicting.until(lambda told: all(model["served"] == embedded for model in models_of(told, "embedder")))
    shared, own = scraped(predicting, "embedder"), scraped(predicting, "scorer")
    suffixes = {measure.family: "_total" if measure.kind == "counter" else "" for measure in MEASURES}
    names = {"tenure_model_info", *(f"{name}{suffix}" for name, suffix in suffixes.items())}
    assert shared.keys() == own.keys() == names
    assert [sample.labels for sample in shared["tenure_model_served_total"]] == [{"model": "embedder", "scope": "host"}]
    for _ in range(2 * WORKERS):
        assert values(scraped(predicting, "embedder"), "tenure_model_served_total") == [embedded]
    assert {sample.labels["worker"] for sample in own["tenure_model_served_total"]} == {"0", "1"}
    assert sum(values(own, "tenure_model_served_total")) == scored
    assert values(shared, "tenure_model_queue_max") == [MOST_WAITING]
    (items,), (batches,) = (values(shared, f"tenure_model_{name}_total") for name in ("batch_items", "batches"))
    assert 1 <= batches <= items == embedded
    assert min(values(shared, "tenure_model_batch_duration_seconds_total")) > 0
    assert min(values(shared, "tenure_model_load_duration_seconds")) > 0


def test_who_is_refused_by_a_worker_is_counted_for_all(predicting: Predicting) -> None:
    """A worker that knows the queue to be full asks no further; yet the machine's count has each, once."""
    held = predicting.hold(MOST_WAITING)
    predicting.until(lambda told: all(model["waiting"] == MOST_WAITING for model in models_of(told, "embedder")))
    assert values(scraped(predicting, "embedder"), "tenure_model_queue_size") == [MOST_WAITING]
    statuses = [httpx.get(f"{predicting.url}/embed/1", timeout=DEADLINE).status_code for _ in range(10)]
    assert set(statuses) == {503}
    predicting.until(lambda told: all(model["refused"] == 10 for model in models_of(told, "embedder")))
    assert values(scraped(predicting, "embedder"), "tenure_model_refused_total") == [10]
    predicting.go()
    assert {each.result().status_code for each in held} == {200}


def test_a_swap_is_another_version(predicting: Predicting) -> None:
    """The series of the version before is gone, and the swap counted."""
    version = predicting.swap("7")
    predicting.until(lambda told: all(model["swaps"] == 1 for model in models_of(told, "embedder")))
    told = scraped(predicting, "embedder")
    assert [sample.labels["version"] for sample in told["tenure_model_info"]] == [version]
    assert values(told, "tenure_model_swaps_total") == [1]


def test_a_worker_that_is_killed_takes_its_own_model_alone(predicting: Predicting) -> None:
    """Its series are gone; those of the model that all workers call are as they were."""
    embedded = predicting.ask_each("/embed/3", 3)
    predicting.ask_each("/score/3", 3)
    process, victim = predicting.ask("/embed/0"), predicting.ask("/process")
    before = {
        sample.labels["worker"]: sample.value for sample in scraped(predicting, "scorer")["tenure_model_served_total"]
    }
    number = next(str(worker["worker"]) for worker in predicting.told()["workers"] if worker["pid"] == victim)
    os.kill(victim, signal.SIGKILL)
    predicting.until(lambda told: victim not in {worker["pid"] for worker in told["workers"]})
    own = {
        sample.labels["worker"]: sample.value for sample in scraped(predicting, "scorer")["tenure_model_served_total"]
    }
    assert own.get(number, 0) == 0
    assert all(value == before[worker] for worker, value in own.items() if worker != number)
    predicting.until(lambda told: all(model["served"] == embedded + 1 for model in models_of(told, "embedder")))
    assert values(scraped(predicting, "embedder"), "tenure_model_served_total") == [embedded + 1]
    assert predicting.ask("/embed/0") == process


def test_of_a_process_that_is_away_nothing_is_told(predicting: Predicting) -> None:
    """Rather than what is no longer so; when it is back, so are its series."""
    process = predicting.ask("/embed/0")
    assert scraped(predicting, "embedder")
    os.kill(process, signal.SIGSTOP)
    try:
        predicting.until(lambda told: all(model["isAway"] for model in models_of(told, "embedder")))
        assert scraped(predicting, "embedder") == {}
        assert all(model["age"] > 1 for model in models_of(predicting.told(), "embedder"))
    finally:
        os.kill(process, signal.SIGCONT)
    predicting.until(lambda told: not any(model["isAway"] for model in models_of(told, "embedder")))
    assert values(scraped(predicting, "embedder"), "tenure_model_served_total") == [1]


def test_each_measure_is_documented() -> None:
    """The guide's tables have each by both of its names."""
    guide = (PROJECT / "docs/guides/telemetry.md").read_text()
    for measure in MEASURES:
        suffix = "_total" if measure.kind == "counter" else ""
        assert f"`{measure.name}`" in guide
        assert f"`{measure.family}{suffix}`" in guide
