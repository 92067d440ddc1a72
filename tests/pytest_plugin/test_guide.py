"""docs/guides/testing.md: its files for pytest do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "testing.md"
PAGE = GUIDE.read_text()
[PROGRAM] = re.findall(r"^```python\n(.*?)^```$", PAGE.partition("## Run the app")[0], re.MULTILINE | re.DOTALL)
FILES: list[tuple[str, str]] = re.findall(r'^```\w+ title="([^"\n]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
OPTIONS, PER_TEST, (_, OVERRIDING), FOR_ALL, ASYNC, (_, BACKEND), ASYNC_FOR_ALL, CLASH, (_, TOLD) = FILES
ANYIO_FOR_ALL = ("test_anyio_for_all.py", ASYNC_FOR_ALL[1].replace('asyncio(loop_scope="session")', "anyio"))


@pytest.mark.parametrize(
    ("conftest", "files", "outcomes"),
    [
        ("", [PER_TEST, ASYNC], {"passed": 4}),
        (OVERRIDING, [FOR_ALL], {"passed": 3}),
        (BACKEND, [ANYIO_FOR_ALL], {"passed": 2}),
        ("", [ASYNC_FOR_ALL], {"passed": 2}),
        ("", [CLASH], {"failed": 1}),
    ],
    ids=["per-test", "for-all", "anyio", "asyncio", "clash"],
)
def test_files_do_what_the_page_says(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    conftest: str,
    files: list[tuple[str, str]],
    outcomes: dict[str, int],
) -> None:
    """Each recipe passes as it stands; the clash fails, and is told what the page shows."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins take most of the time
    for name, text in (("main.py", PROGRAM), OPTIONS, ("conftest.py", conftest), *files):
        (pytester.path / name).write_text(text)
    result = pytester.runpytest_subprocess("-p", "tenure", "-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin")
    result.assert_outcomes(**outcomes)
    if "failed" in outcomes:
        assert TOLD in f"{result.stdout.str()}\n"
