# noqa: INP001 (MkDocs loads it by its path)
"""What MkDocs reads otherwise than GitHub and Python do, put right; MkDocs runs it as a hook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?P<target>\.\./[^)\s]+)\)")
FENCE = re.compile(r"^```(\w+) .*$", re.MULTILINE)
CODE = re.compile(r"(?<=<code>)[^<]*(?=</code>)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """
    Name the file of the repository that a link leads to, where that is no page of the site.

    And leave of what stands behind a fence the language alone: our tests read the rest.
    """
    documents = Path(config.docs_dir)
    folder = documents / Path(page.file.src_uri).parent

    def plain(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if target.is_relative_to(documents):
            return link[0]
        path = f"`{target.relative_to(documents.parent)}`"
        return path if link["text"].strip("`") in path else f"{link['text']} ({path})"

    return LINK.sub(plain, FENCE.sub(r"```\1", markdown))


def on_page_content(html: str, **_: object) -> str:
    """Show a bar in a table's code as a bar, and the two colons before a docstring's example as one."""
    html = CODE.sub(lambda code: code[0].replace(r"\|", "|"), html)
    return html.replace("::</p>", ":</p>")
