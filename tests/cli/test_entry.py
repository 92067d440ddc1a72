"""Where the command begins, and what importing tenure brings."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import Done, environment, tenure
from tests.cli.test_check import GOOD, write

if TYPE_CHECKING:
    from pathlib import Path


def python(program: str, *words: str, folder: Path) -> Done:
    """Run a program until it ends."""
    command = [sys.executable, *(["-c", program] if program else []), *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("package", ["typer", "rich", "fastapi_cli"])
def test_a_package_is_missing(tmp_path: Path, package: str) -> None:
    """Without a package of the extra `cli` the command says how to install it, and the code is 2."""
    write(tmp_path, GOOD)
    program = f"import sys; sys.modules['{package}'] = None; from tenure.cli import main; main()"
    done = python(program, "check", folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error[missing-extra]: the command needs {package}, which is not installed\n\n"
        'hint: pip install "tenure[cli]"\nsee:  docs/errors.md#missing-extra\n'
    )


def test_as_a_module(tmp_path: Path) -> None:
    """``python -m tenure`` is the command."""
    write(tmp_path, GOOD)
    done = python("", "-m", "tenure", "check", folder=tmp_path)
    assert done == (0, "no errors, no warnings in 1 dependency\n", "")


def test_help(tmp_path: Path) -> None:
    """Help names each command; without any word, that is a mistake of usage."""
    done = tenure("--help", folder=tmp_path)
    assert done.code == 0
    assert all(name in done.out for name in ("check", "graph", "start", "health", "wait"))
    assert tenure(folder=tmp_path).code == 2


def test_tenure_brings_fastapi_when_it_is_needed(tmp_path: Path) -> None:
    """To import tenure is to import no FastAPI; to take a name that needs it is."""
    program = (
        "import sys, tenure, tenure.errors; print('fastapi' in sys.modules);"
        "from tenure import scoped; print('fastapi' in sys.modules)"
    )
    assert python(program, folder=tmp_path).out == "False\nTrue\n"


@pytest.mark.parametrize(
    "first", ["import tenure.lifespan", "from tenure import lifespan", "from tenure import scoped"]
)
def test_lifespan_is_the_function(tmp_path: Path, first: str) -> None:
    """`tenure.lifespan` is the function, whatever was imported before it, the module of that name too."""
    program = (
        f"{first}\nimport tenure, tenure.lifespan\nfrom tenure.lifespan import running\nprint(tenure.lifespan.__name__)"
    )
    assert python(program, folder=tmp_path) == (0, "lifespan\n", "")
