"""The documentation is whole: each public name is described, and each link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tenure

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[str]:
    """Give the headings of a page, without their marks."""
    return re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """Give the anchor that a heading gets where Markdown is rendered, on GitHub as elsewhere."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_each_public_name_has_a_heading() -> None:
    """The reference has a section for each name of `tenure.__all__`, and for nothing else."""
    _, *names = headings(ROOT / "docs" / "reference" / "api.md")
    assert sorted(names) == sorted(tenure.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that exists and, after `#`, a heading in it."""
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    for link in links:
        if link.startswith(("http:", "https:")):
            continue
        file, _, fragment = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link} leads nowhere"
        assert not fragment or fragment in map(anchor, headings(target)), f"{link} names no heading"


@pytest.mark.parametrize(
    ("index", "others"), [("docs/index.md", "docs/*/*.md"), ("docs/decisions/README.md", "docs/decisions/0*.md")]
)
def test_each_page_is_in_an_index(index: str, others: str) -> None:
    """Every guide, concept and reference is linked from the index of the documentation, every decision from theirs."""
    text, folder = (ROOT / index).read_text(), (ROOT / index).parent
    pages = {str(page.relative_to(folder)) for page in ROOT.glob(others)}
    assert [page for page in sorted(pages) if f"({page})" not in text and not page.startswith("decisions/0")] == []
