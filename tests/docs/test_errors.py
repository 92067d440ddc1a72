"""docs/errors.md: a section for each code, with examples that raise what they say."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

import tenure.errors
import tenure.models.errors
import tenure.pools.errors
import tenure.remote.errors
from tenure import running
from tenure.errors import TenureError

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """Give the text of each section by its heading; what comes before the first has no name."""
    before, *rest = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return {"": before, **dict(zip(rest[::2], rest[1::2], strict=True))}


def blocks(section: str) -> dict[str, str]:
    """Give the blocks of a section by their language."""
    return {block["language"]: block["source"] for block in BLOCK.finditer(section)}


def codes() -> dict[str, type[TenureError]]:
    """Give every error of the tree by its code."""
    found, queue = {}, [TenureError]
    while queue:
        error = queue.pop()
        found[error.code] = error
        queue += error.__subclasses__()
    return found


PREAMBLE = blocks(sections()[""])["python"]
EXAMPLES = {code: blocks(section) for code, section in sections().items() if code and "python" in blocks(section)}


def run(source: str) -> None:
    """Import an example as `main`, then start its app or run its `main`."""
    Path("main.py").write_text(source)
    spec = importlib.util.spec_from_file_location("main", "main.py")
    if spec is None or spec.loader is None:
        raise ImportError(name="main")
    module = sys.modules["main"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asyncio.run(module.main() if hasattr(module, "main") else start(module))


async def start(module: ModuleType) -> None:
    """Start an example's app as a server does."""
    async with running(module.app):
        pass


def as_documented(printed: str, folder: Path) -> str:
    """Give what an example printed, without what differs from run to run."""
    printed = re.sub(r"process \d+ and used in process \d+", "process 4711 and used in process 4712", printed)
    printed = re.sub(
        r"out for [\d.]+ s: (Task-\d+)?", lambda found: f"out for 0.1 s: {'Task-1' * bool(found[1])}", printed
    )
    return f"{printed}\n".lstrip("\n").replace(str(folder), "/srv/app")


def write(code: str, actual: str) -> None:
    """Put what an example printed into its section."""
    before, heading, section = PAGE.read_text().partition(f"\n## {code}\n")
    old = next(block for block in BLOCK.finditer(section) if block["language"] == "text")
    PAGE.write_text(before + heading + section[: old.start("source")] + actual + section[old.end("source") :])


@pytest.mark.usefixtures("documented_database")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of what other-process is about
@pytest.mark.parametrize("code", EXAMPLES)
def test_examples(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Each example raises the error of its section, with the text that is shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tenure.calls.WORKING_FOLDER", tmp_path)
    monkeypatch.setitem(sys.modules, "main", ModuleType("main"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(TenureError) as raised:
        run(f"{PREAMBLE}\n\n{EXAMPLES[code]['python']}")
    findings = getattr(raised.value, "findings", [])
    assert code in {raised.value.code, *(finding.code for finding in findings)}

    actual = as_documented(str(raised.value), tmp_path)
    if request.config.getoption("--update-docs"):
        write(code, actual)
    assert actual == blocks(sections()[code])["text"]


def test_a_section_for_each_code() -> None:
    """Every code has a section, and no section is about something else."""
    assert sorted(code for code in sections() if code) == sorted(codes())


def test_the_tree() -> None:
    """The tree at the end is the one that the module draws."""
    drawn = (tenure.errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nEach class")[0]
    assert blocks(sections()["tenure"])["text"] == f"{dedent(drawn)}\n"
