"""`tenure graph`: what an app needs, as a tree or for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tenure.cli.apps import Named, NoApp, app_and_plan, told
from tenure.cli.exits import Exit
from tenure.cli.lines import notice, refuse, tell
from tenure.cli.terminal import output
from tenure.cli.tree import by_resource, by_route
from tenure.errors import TenureError
from tenure.ops import formats
from tenure.ops.part import near, own
from tenure.ops.snapshot import planned_snapshot

if TYPE_CHECKING:
    from tenure.ops.snapshot import Snapshot

Format = Literal["tree", "mermaid", "dot", "json", "svg"]
By = Literal["route", "resource"]


def graph(named: Named, form: Format, by: By, focus: str | None, depth: int, *, whole: bool) -> Exit:  # noqa: PLR0913
    """Import an app, and draw what it would start and what its requests need; nothing is checked or connected."""
    try:
        _, plan = app_and_plan(named)
        app = planned_snapshot(plan)
        shown = near(app, focus, depth) if focus is not None else app
    except (NoApp, TenureError) as error:
        return told(error)
    except LookupError as error:
        refuse(str(error))
        return Exit.USAGE
    if form == "json":
        tell([shown.model_dump_json(indent=2)])
        return Exit.FINE
    part = shown if whole else own(shown)
    if form == "tree":
        _print_trees(part, by)
    else:
        tell([{"mermaid": formats.mermaid, "dot": formats.dot, "svg": formats.svg}[form](part)])
    if folded := len(shown.nodes) - len(part.nodes):
        notice([f"{folded} of tenure's own {'are' if folded > 1 else 'is'} folded: --all"])
    return Exit.FINE


def _print_trees(app: Snapshot, by: By) -> None:
    console = output()
    for tree in by_route(app) if by == "route" else by_resource(app):
        console.print(tree)
