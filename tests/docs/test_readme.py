"""README.md: what its commands answer is what the service answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"^\$ curl 'localhost:8000(?P<path>[^']+)'\n(?P<answer>.+)$", re.MULTILINE)
CALLS = CALL.findall((ROOT / "README.md").read_text())


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
