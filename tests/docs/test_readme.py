"""README.md: what its commands answer is what the service answers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.roster.service import reachable_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"^\$ curl 'localhost:8000(?P<path>[^']+)'\n(?P<answer>.+)$", re.MULTILINE)
CALLS = CALL.findall((ROOT / "README.md").read_text())
START_SECONDS = 60


@pytest.fixture(scope="module")
def roster() -> Iterator[httpx.Client]:
    """Serve roster as `make run` does, on a port and with data of its own."""
    with reachable_folder() as folder, socket.socket() as listening, (folder / "log").open("wb") as log:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "roster.main:app", "--fd", str(listening.fileno())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "examples" / "roster")},
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=log,
        )
        try:
            port = listening.getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS) as client:
                yield client
        finally:
            server.terminate()
            server.wait(START_SECONDS)


def shape(answer: Any) -> Any:
    """Give what stays the same whatever the data are: the structure, the names of fields and the types of values."""
    if isinstance(answer, dict):
        return {name: shape(value) for name, value in answer.items()}
    return [shape(item) for item in answer] if isinstance(answer, list) else type(answer)


def test_calls_are_shown() -> None:
    """The README shows the calls of the specification: users, search and the count."""
    assert [path.partition("?")[0] for path, _ in CALLS] == ["/users", "/users/search", "/stats"]


@pytest.mark.parametrize(("path", "answer"), CALLS, ids=[path for path, _ in CALLS])
def test_answers(path: str, answer: str, roster: httpx.Client) -> None:
    """Each call that the README shows is answered in the shape that it shows."""
    response = roster.get(path)
    assert response.status_code == httpx.codes.OK, response.text
    assert shape(response.json()) == shape(json.loads(answer))
