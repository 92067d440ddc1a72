"""The guide to the command line, and the page of warnings: the output that they show is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.cli.commands import ROSTER, tenure

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "guides" / "command-line.md", DOCS / "warnings.md"]
BLOCK = re.compile(r"^```(?P<kind>python|console|console roster)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A command that a page shows, with the program that it is about; nothing where that is roster."""

    page: Path
    command: str
    program: str | None


def examples(page: Path) -> list[Example]:
    """Give the commands of a page; each program begins with the page's first block."""
    first, *rest = BLOCK.finditer(page.read_text())
    found, program, preamble = list[Example](), "", ""
    for block in (first, *rest):
        if block["kind"] == "python":
            preamble, program = preamble or block["text"], block["text"]
        else:
            command = block["text"].partition("\n")[0].removeprefix("$ tenure ")
            source = f"{preamble}\n\n{program}" if block["kind"] == "console" else None
            found.append(Example(page, command, source))
    return found


EXAMPLES = [example for page in PAGES for example in examples(page)]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples(number: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each command prints what the page shows below it."""
    example = EXAMPLES[number]
    if example.program is not None:
        (tmp_path / "main.py").write_text(example.program)
    done = tenure(*example.command.split(), folder=ROSTER if example.program is None else tmp_path)
    actual = f"$ tenure {example.command}\n{done.out}"
    at = number if example.page is PAGES[0] else number - len(examples(PAGES[0]))
    page = example.page.read_text()
    shown = [block for block in BLOCK.finditer(page) if block["kind"] != "python"][at]
    if request.config.getoption("--update-docs"):
        example.page.write_text(page[: shown.start("text")] + actual + page[shown.end("text") :])
    else:
        assert shown["text"] == actual


def test_each_warning_has_a_section() -> None:
    """Each code that a check warns with has a section, whose example is warned of with it, and there is no other."""
    sections = re.split(r"^## (.+)\n", PAGES[1].read_text(), flags=re.MULTILINE)
    warned = {
        code: set(re.findall(r"^warning\[(.+?)\]", text, re.MULTILINE))
        for code, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    source = (Path(__file__).parents[2] / "src" / "tenure" / "fastapi" / "advice.py").read_text()
    codes = set(re.findall(r'yield Advice\(\s*"([\w-]+)"', source))
    assert {code: {code} for code in codes} == warned
