"""What tenure logs: each line says by fields what has happened, and the documentation lists them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SOURCES = [
    path
    for path in sorted((PROJECT / "src" / "tenure").rglob("*.py"))
    if path.name != "keeper.py"  # a process of its own, whose log lies beside its service
]
ROW = re.compile(r"^\| (`[a-z`, -]+`) \| ([A-Z, ]+) \|([^|]*)\|", re.MULTILINE)
METHODS = {"debug", "info", "warning", "error", "exception", "log"}
OF_ERRORS = {"pool-exhausted", "nested-borrow", "unreachable"}
"""Events that are the codes of errors, where an error is logged."""


def calls() -> list[tuple[Path, ast.Call]]:
    """Give where something is logged."""
    return [
        (path, node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
        and node.func.attr in METHODS
    ]


def written() -> dict[str, set[str]]:
    """Give the fields of each event, as the code has them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            keys = (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            if "tenure_event" in keys:
                event = dict(zip(keys, node.values, strict=True))["tenure_event"]
                for name in {event.value} if isinstance(event, ast.Constant) else OF_ERRORS:
                    found[name] |= set(keys) - {"tenure_event"}
    return dict(found)


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Give the levels and fields of each event, as the guide has them."""
    rows = ROW.findall((PROJECT / "docs" / "guides" / "telemetry.md").read_text())
    return {
        event: (set(levels.split(", ")), {f"tenure_{field}" for field in re.findall(r"`(\w+)`", fields)})
        for events, levels, fields in rows
        for event in re.findall(r"`([a-z-]+)`", events)
    }


def test_each_event_is_documented_with_its_fields() -> None:
    """The guide's table has what the code has, no more and no less."""
    assert {event: fields for event, (_, fields) in documented().items()} == written()


def test_each_line_of_the_log_has_fields_and_a_level_that_is_documented() -> None:
    """No line is without an event; where the level is fixed, it is the table's."""
    events = documented()
    for path, call in calls():
        said = {keyword.arg: keyword.value for keyword in call.keywords}
        assert "extra" in said, f"{path}:{call.lineno}"
        extra = said["extra"]
        if (
            isinstance(extra, ast.Dict)
            and isinstance(extra.values[0], ast.Constant)
            and isinstance(call.func, ast.Attribute)
        ):
            level = {"exception": "ERROR"}.get(call.func.attr, call.func.attr.upper())
            event = str(extra.values[0].value)
            assert level in events[event][0] or (event, level) == ("binding-off", "INFO"), f"{path}:{call.lineno}"


PROGRAM = """
import asyncio
from roster import logs
from tenure import running, scoped

logs.configure()

@scoped("app")
async def model() -> str:
    return "weights"

async def main():
    async with running(also=[model]):
        pass

asyncio.run(main())
"""


def test_structlog_renders_the_fields() -> None:
    """With structlog as roster has it, each line is JSON, and what it is about are keys."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=PROJECT)
    told = {record["tenure_event"]: record for record in map(json.loads, done.stderr.splitlines())}
    assert told.keys() == {"resource-ready", "app-ready"}
    ready = told["resource-ready"]
    assert (ready["tenure_resource"], ready["level"], ready["logger"]) == ("model", "info", "tenure")
    assert 0 <= ready["tenure_seconds"] < 60
    assert ready["event"].startswith("model ready in ")
