"""The command's words: what each takes, and who does it; that is imported only when it is asked for."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tenure.cli.health import TIMEOUT
from tenure.cli.health import health as health_of

command = typer.Typer(
    name="tenure",
    help="Check, draw and start the dependencies of a FastAPI app, and ask a running one how it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

App = Annotated[
    str | None,
    typer.Argument(
        help="The app: `module:app`, or the path of a file. Without it: `tool.fastapi.entrypoint` in "
        "pyproject.toml, else main.py, app.py or api.py, here or in app/.",
        show_default=False,
    ),
]
Entrypoint = Annotated[
    str | None, typer.Option("--entrypoint", "-e", help="The app, as `module:app`.", show_default=False)
]
Name = Annotated[str | None, typer.Option("--app", help="The app's name in the module.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="A URL; without a path, /readyz is asked for.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds.")]


@command.command()
def check(
    app: App = None,
    *,
    entrypoint: Entrypoint = None,
    name: Name = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings count as errors do.")] = False,
    as_json: Json = False,
) -> None:
    """Check what an app would start, connecting nothing: exit code 0 if it can work, 1 if not."""
    from tenure.cli.apps import Named  # noqa: PLC0415 (FastAPI takes longer to import than a question to a running app)
    from tenure.cli.check import check as check_app  # noqa: PLC0415 (as above)

    raise typer.Exit(check_app(Named(app, entrypoint, name), strict=strict, as_json=as_json))


@command.command()
def graph(  # noqa: PLR0913 (each is an option)
    app: App = None,
    *,
    entrypoint: Entrypoint = None,
    name: Name = None,
    form: Annotated[
        Literal["tree", "mermaid", "dot", "json", "svg"], typer.Option("--format", help="What is printed.")
    ] = "tree",
    by: Annotated[Literal["route", "resource"], typer.Option(help="What stands on top of the tree.")] = "route",
    focus: Annotated[str | None, typer.Option(help="Show what is near this one.", show_default=False)] = None,
    depth: Annotated[int, typer.Option(min=0, help="How many steps from it are near.")] = 1,
    whole: Annotated[bool, typer.Option("--all", help="Show what tenure declares for itself, too.")] = False,
    as_json: Json = False,
) -> None:
    """Draw what an app starts and what its requests need, connecting nothing."""
    from tenure.cli.apps import Named  # noqa: PLC0415 (as above)
    from tenure.cli.graph import graph as graph_of  # noqa: PLC0415 (as above)

    named = Named(app, entrypoint, name)
    raise typer.Exit(graph_of(named, "json" if as_json else form, by, focus, depth, whole=whole))


@command.command()
def start(
    app: App = None,
    *,
    entrypoint: Entrypoint = None,
    name: Name = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that the start may take.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Start all that an app starts once, and close it: exit code 0 if that went well, 1 if not, 3 if not in time."""
    from tenure.cli.apps import Named  # noqa: PLC0415 (as above)
    from tenure.cli.start import start as start_app  # noqa: PLC0415 (as above)

    raise typer.Exit(start_app(Named(app, entrypoint, name), timeout, as_json=as_json))


@command.command()
def health(url: Url, *, timeout: Timeout = TIMEOUT, as_json: Json = False) -> None:
    """Ask a running app once how it is: exit code 0 if it is well, 1 if not, 3 if it does not answer in time."""
    raise typer.Exit(health_of(url, timeout, as_json=as_json))


@command.command()
def wait(
    url: Url,
    *,
    timeout: Timeout = 30,
    interval: Annotated[float, typer.Option(min=0.001, help="Seconds from one question to the next.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Wait until a running app is well: exit code 0, or 3 if it is not in time."""
    from tenure.cli.wait import wait as wait_for  # noqa: PLC0415 (as above)

    raise typer.Exit(wait_for(url, timeout, interval, as_json=as_json))
