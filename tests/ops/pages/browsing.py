"""A real browser, in which the page `/ops` is opened, and held to its promises meanwhile."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.ops.pages.servers import DEADLINE, PROJECT, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 400, "height": 800}

expect.set_options(timeout=DEADLINE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium of this machine."""
    found = subprocess.run([PROJECT / "scripts" / "chromium", "find"], check=False, capture_output=True, text=True)
    if found.returncode:
        pytest.fail(found.stderr.strip())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.stdout.strip(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page, by which no error may be logged and no other host be asked, and wait until it has drawn."""
    contexts = []
    wrong: list[str] = []

    def open_page(
        server: Server, path: str = "/ops", *, viewport: ViewportSize = WIDE, quiet: bool = True, **words: Any
    ) -> Page:
        context = browser.new_context(viewport=viewport, **words)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: elsewhere(request.url, server) and wrong.append(request.url))
        if quiet:
            page.on("console", lambda message: message.type in {"error", "warning"} and wrong.append(message.text))
        page.goto(f"{server.url}{path}")
        expect(page.locator("#pulse")).to_have_text("Live")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def elsewhere(url: str, server: Server) -> bool:
    """Tell whether an address leads to another host."""
    return not url.startswith((server.url, "data:", "blob:"))


def answers(page: Page, count: int = 2) -> None:
    """Wait until so many more answers have come and been drawn."""
    for _ in range(count):
        with page.expect_response(re.compile("workers.json")):
            pass
    page.evaluate("() => new Promise(drawn => setTimeout(drawn, 50))")
