"""The consoles, for data and for the rest, with colours in a terminal alone; and what is coloured."""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "hint": "bold cyan",
    "see": "dim",
    "function": "cyan",
    "request": "blue",
    "app": "green",
    "host": "magenta",
    "cluster": "yellow",
}
"""How errors and scopes look; what a colour says is said in words beside it."""
_HEAD = re.compile(r"^(error|warning)(?:\[[\w-]+\])?:", re.MULTILINE)
_LABEL = re.compile(r"^(hint|see):", re.MULTILINE)
_NAME = re.compile(r"`[^`\n]+`")
_PATH_LINE = re.compile(r"^  (?:.*?  )(function|request|app|host|cluster)?  ?(\S+)$", re.MULTILINE)


def output() -> Console:
    """Give the console for data."""
    return Console(highlight=False, soft_wrap=True)


def notices() -> Console:
    """Give the console for all that is no data: what goes on, and what went wrong."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def coloured(report: str) -> Text:
    """Colour a report in the form of tenure's errors."""
    text = Text(report)
    for found in _PATH_LINE.finditer(report):
        if found[1]:
            text.stylize(STYLES[found[1]], *found.span(1))
        text.stylize("dim", *found.span(2))
    for found in _NAME.finditer(report):
        text.stylize("bold", *found.span())
    for found in [*_HEAD.finditer(report), *_LABEL.finditer(report)]:
        text.stylize(STYLES[found[1]], *found.span())
    return text
