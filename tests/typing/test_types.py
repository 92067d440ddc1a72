"""A type checker with no plugin refuses wrong uses, as a user would see it."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from mypy import api

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
from collections.abc import AsyncIterator
from fastapi import FastAPI
from tenure import Counter, Scope, lifespan, override, running, scoped

@scoped("app")
async def pool() -> AsyncIterator[int]:
    yield 1

requests = Counter("requests", scope="app")
app = FastAPI(lifespan=lifespan)
"""


def errors_in(folder: Path, source: str) -> list[str]:
    """Check a program under strict rules and give the codes of its errors."""
    program = folder / "program.py"
    program.write_text(HEAD + dedent(source))
    output, trouble, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", str(folder / "cache"), str(program)])
    assert trouble == ""
    return re.findall(r"error: .*\[([a-z-]+)\]$", output, re.MULTILINE)


@pytest.mark.timeout(300)
def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    """A wrong scope, value, element or option is each an error, and what is right beside it is none."""
    assert errors_in(
        tmp_path,
        """
        async def right(scope: Scope) -> None:
            number: int = await scope.get(pool)
            async with scope.open(pool) as opened:
                number = opened

        async def wrong_value(scope: Scope) -> None:
            word: str = await scope.get(pool)
            async with scope.open(pool) as opened:
                word = opened

        async def wrong_key(scope: Scope) -> None:
            await scope.get(lambda: 1)

        scoped("session")
        scoped("app", timeout=3)
        scoped("app")(1)
        Counter("requests")
        Counter("requests", scope="proces")
        requests.add("1")
        lifespan(also=[lambda: 1])
        override(app, {pool: 1})
        pool.scpe
        """,
    ) == [
        "arg-type",
        "assignment",
        "arg-type",
        "arg-type",
        "call-arg",
        "call-overload",
        "call-arg",
        "arg-type",
        "arg-type",
        "list-item",
        "dict-item",
        "attr-defined",
    ]
