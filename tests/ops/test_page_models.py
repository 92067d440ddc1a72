"""The page's section of models, in a real browser, from two workers that call one process."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.ops.pages.browsing import NARROW, answers
from tests.ops.pages.servers import Server
from tests.ops.predicted import MOST_WAITING, Predicting, models_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Locator

MODELS = "/ops#view=models"


@pytest.fixture(scope="module")
def predicting() -> Iterator[Predicting]:
    """The app with models."""
    with Predicting() as server:
        yield server


def card(page: Page, name: str) -> Locator:
    """Find a model."""
    return page.locator(".model", has=page.locator("h3", has_text=name))


def figure(page: Page, model: str, name: str) -> Locator:
    """Find one of its figures."""
    return card(page, model).locator(f"[data-figure='{name}']")


def number(page: Page, model: str, name: str) -> int:
    """Read one of them."""
    return int(figure(page, model, name).locator("dd").inner_text().replace(",", ""))


def test_a_model_of_all_workers_is_told_once(predicting: Predicting, opened: Callable[..., Page]) -> None:
    """What its process has counted is not added up over the workers that tell of it; their own models' counts are."""
    page = opened(predicting, MODELS)
    before = {name: number(page, name, "served") for name in ("embedder", "scorer")}
    embedded, scored = predicting.ask_each("/embed/3", 3), predicting.ask_each("/score/3", 3)
    expect(figure(page, "embedder", "served").locator("dd")).to_have_text(str(before["embedder"] + embedded))
    expect(figure(page, "scorer", "served").locator("dd")).to_have_text(str(before["scorer"] + scored))
    expect(card(page, "embedder")).to_contain_text("one for all workers")
    expect(card(page, "embedder").locator(".badge.scope")).to_have_text("host")
    expect(card(page, "embedder").locator(".by-worker")).to_be_hidden()
    expect(card(page, "scorer")).to_contain_text("the workers' sum")
    card(page, "scorer").locator("summary").click()
    expect(card(page, "scorer").locator(".by-worker li")).to_have_count(2)
    page.locator("#workers [data-worker='0']").click()
    expect(figure(page, "embedder", "served").locator("dd")).to_have_text(str(before["embedder"] + embedded))
    assert 3 <= number(page, "scorer", "served") < before["scorer"] + scored


def test_who_has_heard_of_a_model_last_is_right(predicting: Predicting, opened: Callable[..., Page]) -> None:
    """Of two workers that tell other things of one model, that is shown whose knowledge is younger."""
    page = opened(predicting, MODELS)
    told = predicting.told()
    younger, older = models_of(told, "embedder")
    younger |= {"age": 0.1, "served": 71, "version": "embedder@abcdef012345"}
    older |= {"age": 2.5, "served": 34, "isAway": True}
    page.route("**/workers.json", lambda route: route.fulfill(json=told))
    for _ in range(2):
        told["workers"].reverse()
        answers(page)
        expect(figure(page, "embedder", "served").locator("dd")).to_have_text("71")
        expect(card(page, "embedder").locator(".version")).to_have_text("abcdef012345")
        expect(card(page, "embedder").locator(".away")).to_be_hidden()


def test_a_swap_appears_without_a_reload(predicting: Predicting, opened: Callable[..., Page]) -> None:
    """The new version stands in the place of the old one within a moment, and the chart has a mark."""
    page = opened(predicting, MODELS)
    version = card(page, "embedder").locator(".version")
    before, swaps = version.inner_text(), number(page, "embedder", "swaps")
    answers(page)
    page.evaluate("window.kept = true")
    digits = predicting.swap("7").partition("@")[2]
    assert digits != before
    expect(version).to_have_text(digits)
    expect(figure(page, "embedder", "swaps").locator("dd")).to_have_text(str(swaps + 1))
    expect(card(page, "embedder").locator(".chart .swap")).to_have_attribute("d", re.compile(r"^M[\d.]+ 0V"))
    expect(card(page, "embedder").locator(".chart")).to_have_attribute("aria-label", re.compile("1 swap$"))
    expect(card(page, "scorer").locator(".chart .swap")).to_have_attribute("d", "")
    assert predicting.ask("/embed/3") == 21
    assert page.evaluate("window.kept")


def test_a_full_queue_stands_out(predicting: Predicting, opened: Callable[..., Page]) -> None:
    """Who waits and who was refused is told as it changes, coloured where the queue is full, and drawn."""
    page = opened(predicting, MODELS)
    refused = number(page, "embedder", "refused")
    held = predicting.hold(MOST_WAITING + 4)
    waiting = figure(page, "embedder", "waiting")
    expect(waiting).to_have_class(re.compile("alarming"))
    expect(waiting.locator("dd")).to_have_text(str(MOST_WAITING))
    expect(figure(page, "embedder", "refused")).to_have_class(re.compile("alarming"))
    expect(page.locator("#tab-models span")).to_have_attribute("data-state", "warn")
    expect(page.locator("#tab-models")).to_contain_text(f"{MOST_WAITING} waiting")
    answers(page)
    predicting.go()
    statuses = [each.result().status_code for each in held]
    assert (statuses.count(200), statuses.count(503)) == (MOST_WAITING + 1, 4)
    expect(page.locator("#tab-models")).to_contain_text("0 waiting")
    expect(waiting).not_to_have_class(re.compile("alarming"))
    expect(figure(page, "embedder", "refused").locator("dd")).to_have_text(str(refused + 4))
    chart = card(page, "embedder").locator(".chart")
    expect(chart).to_have_attribute("aria-label", re.compile(f"at most {MOST_WAITING} waiting"))
    heights = re.findall(r"[ML][\d.]+ ([\d.]+)", chart.locator(".waiting").get_attribute("d") or "")
    assert len(set(heights)) > 1
    batches = re.findall(r"[ML][\d.]+ ([\d.]+)", chart.locator(".in-use").get_attribute("d") or "")
    assert len(set(batches)) > 1
    card(page, "embedder").locator("h3 button").click()
    expect(page.locator("#details h2")).to_have_text("embedder")
    expect(page.locator("#nodes > [data-id=embedder] .metric")).to_have_text(f"0/{MOST_WAITING}")
    details = page.locator("#details section[aria-labelledby=d-model]")
    expect(details.locator("[data-figure=refused] dd")).to_have_text(str(refused + 4))
    expect(page.locator("#d-facts")).to_contain_text("embedder@")


def test_a_process_that_is_away_is_told(predicting: Predicting, opened: Callable[..., Page]) -> None:
    """While nothing is heard of the model's process, the last that was stands there, with its age; then it goes on."""
    page = opened(predicting, MODELS)
    process = predicting.ask("/embed/0")
    served = predicting.until(lambda told: models_of(told, "embedder")[0]["served"] > 0)
    away = card(page, "embedder").locator(".away")
    expect(away).to_be_hidden()
    os.kill(process, signal.SIGSTOP)
    try:
        expect(away).to_contain_text(re.compile(r"Its process is away: this is how it was \d+ s ago"))
        expect(page.locator("#tab-models")).to_contain_text("away")
        expect(page.locator("#tab-models span")).to_have_attribute("data-state", "warn")
        assert number(page, "embedder", "served") >= models_of(served, "embedder")[0]["served"]
    finally:
        os.kill(process, signal.SIGCONT)
    expect(away).to_be_hidden()
    assert predicting.ask("/embed/0") == process


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_models_fit_a_narrow_screen(predicting: Predicting, opened: Callable[..., Page], theme: str) -> None:
    """At 400 pixels nothing sticks out sideways; the tab is reached, as the others are, by a key and by arrows."""
    viewport: ViewportSize = NARROW
    page = opened(predicting, viewport=viewport, color_scheme=theme)
    page.keyboard.press("5")
    expect(card(page, "embedder")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.locator("#tab-models").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#view-health")).to_be_visible()
    page.keyboard.press("ArrowRight")
    card(page, "scorer").locator("h3 button").click()
    expect(page.locator("#details h2")).to_have_text("scorer")


def test_an_app_without_a_model_has_no_such_tab(opened: Callable[..., Page]) -> None:
    """It is not there, nor reached by its key or by arrows; an address that names it says what would be shown."""
    with Server("many") as server:
        page = opened(server)
        expect(page.locator("#tab-models")).to_be_hidden()
        page.keyboard.press("5")
        expect(page.locator("#view-models")).to_be_hidden()
        page.locator("#tab-graph").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#tab-health")).to_be_focused()
        page.goto(f"{server.url}{MODELS}")
        page.reload()
        expect(page.locator("#no-models")).to_contain_text("No model is loaded")
