"""Where the command begins: with whatever it needs installed, or with how to install it."""

from __future__ import annotations

import sys

from tenure.cli.exits import Exit
from tenure.cli.health import plainly
from tenure.cli.lines import notice
from tenure.errors import MissingExtra

NEEDED = {"typer", "rich", "fastapi_cli"}
"""The packages of the extra `cli`."""


def main() -> None:
    """Run the command with the arguments of this process, and exit with one of the codes of `Exit`."""
    done = plainly(sys.argv[1:])  # a container asks this often, and Typer takes longer to import than the question
    if done is not None:
        sys.exit(done)
    try:
        from tenure.cli.commands import command  # noqa: PLC0415 (what it needs may be missing)

        command(prog_name="tenure")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in NEEDED:
            raise
        missing = MissingExtra(f"the command needs {package}, which is not installed", hint='pip install "tenure[cli]"')
        notice([str(missing)])
        sys.exit(Exit.USAGE)
