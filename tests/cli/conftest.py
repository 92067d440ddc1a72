"""The command in this process, for what needs no process of its own: each takes seconds to import FastAPI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tenure.cli.commands import command
from tests.cli.commands import CHANGING, Done

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tenure_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run the command in this process and a folder of its own; what it imports from there is forgotten each time."""
    for name in CHANGING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tenure.calls.WORKING_FOLDER", tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(*words: str, **variables: str) -> Done:
        before, path = set(sys.modules), sys.path[:]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            result: Any = CliRunner().invoke(command, words)
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
                del sys.modules[name]
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run
