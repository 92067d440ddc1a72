"""docs/tutorial: its program is the one that its pages build, and serves two machines as they say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.roster.service import reachable_folder

from tenure.host import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PAGES = sorted((Path(__file__).parents[2] / "docs" / "tutorial").glob("[0-9]*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
*PARTS, PROGRAM = [block for page in PAGES for block in BLOCK.findall(page.read_text())]
MODEL = "good 1\nbad -1\n"
DEADLINE = 30
"""Seconds that a start, and the way of a count from one machine to the other, may take."""


def test_pages_lead_to_each_other() -> None:
    """Each page but the last ends with a link to the next."""
    for page, following in pairwise(PAGES):
        assert page.read_text().rstrip().endswith(f"]({following.name}).")


def test_program_is_what_pages_build() -> None:
    """Whatever the whole program declares stands on a page, but for the settings, which have lost the server."""
    shown = {ast.dump(statement) for part in PARTS for statement in ast.parse(part).body}
    imported = (ast.Import, ast.ImportFrom)
    statements = [statement for statement in ast.parse(PROGRAM).body if not isinstance(statement, imported)]
    new = [ast.unparse(statement) for statement in statements if ast.dump(statement) not in shown]
    assert [text.partition("(")[0] for text in new] == ["def read_settings"]


@contextmanager
def machine(folder: Path, number: int, environment: dict[str, str]) -> Generator[httpx.Client]:
    """Serve the program with two workers that take themselves for a machine, on a port that is free."""
    place = folder / f"machine-{number}"
    place.mkdir(mode=0o700)
    log, port = folder / f"{number}.log", 0
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "main:app", "--workers", "2", "--port", "0"],
            cwd=folder,
            env={**os.environ, **environment, "XDG_RUNTIME_DIR": str(place)},
            stderr=output,
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while not port or log.read_text().count("startup complete") < 2:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
            running = re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())
            port = int(running[1]) if running else 0
        # One connection would always lead to one worker.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=DEADLINE) as client:
            yield client
    finally:
        server.terminate()
        server.wait(DEADLINE)


@pytest.fixture
def machines() -> Iterator[list[httpx.Client]]:
    """Two machines that serve the program, with a PostgreSQL that is empty."""
    with reachable_folder() as folder, EmbeddedPostgres(folder / "postgres") as server, ExitStack() as stack:
        (folder / "main.py").write_text(PROGRAM)
        (folder / "model.txt").write_text(MODEL)
        environment = {"DATABASE_URL": server.dsn(), "TENURE_STATE": server.dsn(), "MODEL": "model.txt"}
        yield [stack.enter_context(machine(folder, number, environment)) for number in (1, 2)]


def test_two_machines(machines: list[httpx.Client]) -> None:
    """Two machines of two workers each answer users, a mood and, after a second, one count of both."""
    for client in machines:
        assert client.get("/users").json()[0] == {"id": 1, "username": "ada"}
        assert client.get("/mood", params={"text": "a good day"}).json() == 1
        assert client.post("/report").json() == "reported"
    here, there = machines
    assert [here.get("/stats").json()["total_requests"] for _ in range(8)] == list(range(1, 9))
    deadline, asked = time.monotonic() + DEADLINE, 1
    while there.get("/stats").json()["total_requests"] < 8 + asked:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        asked += 1
