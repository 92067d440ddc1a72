"""The command `roster`: what operators do to a roster that runs, and nobody can over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tenure.errors import TenureError
from tenure.models import ModelFile

command = typer.Typer(
    name="roster",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@command.callback()
def roster() -> None:
    """Look after a roster that runs on this machine: in the folder, and with the environment, of its workers."""


@command.command("swap-model")
def swap_model(
    file: Annotated[Path, typer.Argument(help="An ONNX file, of the same vocabulary.", show_default=False)],
    sha256: Annotated[str, typer.Option(help="The checksum that `sha256sum` prints for it.", show_default=False)],
) -> None:
    """
    Let all workers embed with another model, and embed every bio anew; no request fails.

    What is swapped lasts until the last worker has left. If it is cut off, run it once more.
    """
    from roster.swapping import swap  # noqa: PLC0415 (the app, which takes a while to import)

    try:
        asyncio.run(swap(ModelFile(file, sha256=sha256, format="onnx")))
    except TenureError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Run the command."""
    command()
