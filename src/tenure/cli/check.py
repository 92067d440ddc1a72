"""`tenure check`: all that is wrong with what an app would start, and what costs or bites; nothing is connected."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenure.cli.apps import Named, NoApp, app_and_plan, frames_of, told
from tenure.cli.exits import Exit
from tenure.cli.lines import tell_document
from tenure.cli.terminal import coloured, output
from tenure.errors import MissingExtra, PlanError, TenureError
from tenure.fastapi.advice import Advice, advice

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
"""Of the form of the document; it rises when something is taken away or means another thing."""


@dataclass(frozen=True)
class Report:
    """
    What was found.

    Attributes:
        app: The app's title, if it could be imported.
        dependencies: How many it has, if that could be found out.
        errors: What keeps it from starting.
        warnings: What costs or bites.
    """

    app: str
    dependencies: int | None
    errors: Sequence[TenureError]
    warnings: Sequence[Advice]

    def __str__(self) -> str:
        """Render the errors, then the warnings, then one line that counts them."""
        counts = [_count(len(self.errors), "error", "errors"), _count(len(self.warnings), "warning", "warnings")]
        last = ", ".join(counts)
        if self.dependencies is not None:
            last += f" in {_count(self.dependencies, 'dependency', 'dependencies')}"
        return "\n\n".join([*map(str, self.errors), *map(str, self.warnings), last])

    def document(self) -> dict[str, Any]:
        """Give it as a document."""
        return {
            "schemaVersion": VERSION,
            "app": self.app,
            "dependencies": self.dependencies,
            "errors": [_finding(error) for error in self.errors],
            "warnings": [_finding(warning) for warning in self.warnings],
        }


def check(named: Named, *, strict: bool, as_json: bool) -> Exit:
    """Import an app, find and check what it would start, and say what was found."""
    try:
        report = _report(named)
    except (NoApp, MissingExtra) as error:
        return told(error)
    if as_json:
        tell_document(report.document())
    else:
        output().print(coloured(str(report)))
    return Exit.FINDINGS if report.errors or (strict and report.warnings) else Exit.FINE


def _report(named: Named) -> Report:
    before = set(sys.modules)
    try:
        app, plan = app_and_plan(named)
    except MissingExtra:
        raise
    except TenureError as error:  # what cannot be declared is found where it is imported
        error.path = error.path or tuple(frames_of(error))
        return Report("", None, [error], [])
    errors: Sequence[TenureError] = []
    try:
        plan.check()
    except PlanError as error:
        errors = error.findings
    except TenureError as error:
        errors = [error]
    modules = [module for name, module in sys.modules.items() if name not in before]
    return Report(app.title, len(plan.graph.nodes), errors, advice(plan, modules))


def _count(number: int, one: str, many: str) -> str:
    return f"{number or 'no'} {one if number == 1 else many}"


def _finding(found: TenureError | Advice) -> dict[str, Any]:
    return {
        "code": found.code,
        "message": found.message,
        "path": list(found.path),
        "hint": found.hint,
        "link": found.link,
    }
