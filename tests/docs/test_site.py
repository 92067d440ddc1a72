"""The site of the documentation: it builds without a warning, asks no other host for anything, and its links hold."""

from __future__ import annotations

import html
import importlib
import inspect
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODULES = re.findall(r"^::: (\S+)$(?!\n    options)", (DOCS / "reference" / "docstrings.md").read_text(), re.MULTILINE)
LOADED = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "link": "href"}
"""What a browser loads by itself, without being asked."""


class Page(HTMLParser):
    """What a page of the site loads, links to and can be linked to by."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element refers to."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if LOADED.get(tag) in values:
            self.loaded.append(values[LOADED[tag]])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


page = cache(Page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make site` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_each_page_is_there(site: Path) -> None:
    """Every Markdown page of the documentation is a page of the site."""
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]
    wanted = {path.with_name("index.html") if path.stem == "README" else path for path in pages}
    assert wanted <= {path.relative_to(site) for path in site.rglob("*.html")}


def test_code_is_code(site: Path) -> None:
    """Each block of code has been taken for one, however GitHub's Markdown may write it."""
    for path in site.rglob("*.html"):
        assert "```" not in path.read_text(), path


def test_no_other_host_is_asked(site: Path) -> None:
    """No page, style sheet or start-up script of the site loads anything from another host, be it a font."""
    for path in site.rglob("*.html"):
        assert [url for url in page(path).loaded if urlsplit(url).netloc] == [], path
        assert 'class="mermaid"' not in path.read_text(), f"{path}: what draws Mermaid comes from another host"
    for path in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//|@import", path.read_text()) == [], path


def test_links_lead_somewhere(site: Path) -> None:
    """Each link of the site to itself names a file and, after `#`, a place in it."""
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue  # it is shown anywhere, so its links begin at the root
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link} leads nowhere"
            assert not parts.fragment or unquote(parts.fragment) in page(target).anchors, f"{path}: {link} has no place"


def test_pages_can_be_searched_as_files(site: Path) -> None:
    """The search has its index and its worker as scripts, which a browser also loads from files."""
    assert (site / "search" / "search_index.js").stat().st_size > 100_000
    assert "javascripts/iframe-worker.js" in page(site / "index.html").loaded


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_are_shown(name: str, site: Path) -> None:
    """The reference shows each name that a public module offers, and what its docstring says first."""
    reference = site / "reference" / "docstrings.html"
    shown = html.unescape(re.sub(r"<[^>]+>", "", reference.read_text()))
    module = importlib.import_module(name)
    offers = {offer: getattr(module, offer) for offer in getattr(module, "__all__", [])}
    for offer, it in offers.items():
        if not inspect.isclass(it) and not inspect.isfunction(it):
            continue  # a value has no docstring of its own
        assert {f"{name}.{offer}", f"{name}.{offer}.{offer}"} & page(reference).anchors, offer
        assert re.sub(r"[`*]", "", (it.__doc__ or "").strip().partition("\n")[0]) in shown
