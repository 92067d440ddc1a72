# noqa: INP001 (make runs it)
"""Take the pictures of the page `/ops` that the documentation shows, of roster as it runs: `make screenshots`."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from tests.roster.service import Service, reachable_folder

if TYPE_CHECKING:
    from collections.abc import Generator

FLAGS = ["--no-sandbox", "--disable-background-networking"]
IMAGES = Path("docs/images")
WIDE = (1280, 760)
LOW = (1280, 560)
NARROW = (400, 800)
LOAD = 12
"""Clients that ask at the same time while the pictures are taken, so that there is something to see."""
SHOWN = 45_000
"""Milliseconds that a chart is watched."""


@contextmanager
def load(url: str) -> Generator[None]:
    """Ask for users, more than there are connections for at times."""
    ended = Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for asked in count():
                if ended.is_set():
                    break
                client.get("/users/search", params={"q": f"somebody {number} {asked}"})  # which nobody has found yet
                client.get("/users")
                client.get("/stats")
                ended.wait(0.2 * (number % 5))

    with ThreadPoolExecutor(LOAD) as clients:
        asking = [clients.submit(ask, number) for number in range(LOAD)]
        yield
        ended.set()
    for each in asking:
        each.result()


def page_of(browser: Browser, url: str, size: tuple[int, int], *, dark: bool = False) -> Page:
    """Open the page, and wait until it has drawn."""
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=1.5,
        reduced_motion="reduce",
    )
    page.goto(url)
    page.locator("#pulse", has_text="Live").wait_for()
    page.wait_for_timeout(1500)
    return page


def take(browser: Browser, url: str) -> None:
    """Take all of them."""
    dark = page_of(browser, f"{url}/ops", WIDE, dark=True)
    dark.locator("#nodes [data-id=users]").click()
    models = page_of(browser, f"{url}/ops#view=models", LOW)
    page_of(browser, f"{url}/ops", WIDE).screenshot(path=IMAGES / "ops-graph.png")
    page_of(browser, f"{url}/ops#view=startup", WIDE).screenshot(path=IMAGES / "ops-timeline.png")
    page_of(browser, f"{url}/ops", NARROW).screenshot(path=IMAGES / "ops-narrow.png")
    dark.wait_for_timeout(SHOWN)
    dark.screenshot(path=IMAGES / "ops-dark.png")
    models.screenshot(path=IMAGES / "ops-models.png")


def main() -> None:
    """Run roster in two workers, ask it for things, and look."""
    found = subprocess.check_output([Path("scripts/chromium").resolve()], text=True)  # noqa: S603 (our own)
    with (
        reachable_folder() as folder,
        Service(folder, "uvicorn-workers", FASTAPI_ENV="development") as service,
        sync_playwright() as playwright,
    ):
        service.until_ready()
        browser = playwright.chromium.launch(executable_path=found.strip(), args=FLAGS)
        with load(service.url):
            take(browser, service.url)
        browser.close()


if __name__ == "__main__":
    main()
