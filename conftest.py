"""Run what the documentation shows: each Python block of README.md and docs/, and compare what it says it prints."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from tests.roster.service import reachable_folder

from tenure.host import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sybil import Example

PRINTED = "printed"
"""Where a page's namespace keeps what its last Python block printed."""

FILE = re.compile(r"# (?P<name>\w+\.py)\n")
"""How a block begins that is a module of its own."""

_evaluate = PythonEvaluator()


def run(example: Example) -> None:
    """
    Run a Python block as a part of its page, and keep what it prints for the output block that may follow.

    One that begins with the name of a file is a module, which others, and other processes, import.
    """
    named = FILE.match(str(example.parsed))
    if named is not None:
        (example.namespace["own_modules"] / named["name"]).write_text(str(example.parsed))
        return
    output = StringIO()
    with redirect_stdout(output):
        _evaluate(example)
    example.namespace[PRINTED] = output.getvalue()


def compare(example: Example) -> None:
    """Hold a `text` block against what the Python block before it has printed."""
    expected, actual = str(example.parsed), example.namespace.pop(PRINTED)
    assert actual == expected, f"the block before {example.path}:{example.line} printed:\n{actual}"


def prepare(namespace: dict[str, Any]) -> None:
    """Name the module that a page's blocks make up."""
    namespace["__name__"] = "docs"


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("python", run), CodeBlockParser("text", compare)],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    excludes=["docs/errors.md"],  # tests/docs/test_errors.py runs its examples, each in a file of its own
    setup=prepare,
    fixtures=["documented_database", "own_machine", "own_modules", "undisturbed_logging"],
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes the output that docs/errors.md shows anew."""
    parser.addoption("--update-docs", action="store_true", help="write the output in docs/errors.md anew")


@pytest.fixture(scope="session")
def documented_database() -> Iterator[str]:
    """Run a PostgreSQL for the pages, with the table `users` of the specification, and name it in `DATABASE_URL`."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server:
        asyncio.run(_fill(server.dsn()))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("DATABASE_URL", server.dsn())
            yield server.dsn()


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE users (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, username text UNIQUE)"
    )
    await connection.execute("INSERT INTO users (username) VALUES ('ada'), ('grace'), ('linus')")
    await connection.close()


@pytest.fixture(scope="module")
def own_machine() -> Iterator[None]:
    """Let each page share what is host-scoped with nobody: pages run side by side, and declare like names."""
    with reachable_folder() as folder, pytest.MonkeyPatch.context() as environment:
        folder.chmod(0o700)
        environment.setenv("XDG_RUNTIME_DIR", str(folder))
        yield


@pytest.fixture(scope="module")
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder for the modules of a page, from which they are imported."""
    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as environment:
        environment.syspath_prepend(folder)
        yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def undisturbed_logging() -> Iterator[None]:
    """Give the log back as it was before a page showed how it is read."""
    logger = logging.getLogger("tenure")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
