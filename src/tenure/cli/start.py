"""`tenure start`: every resource started once and closed again, so that a deploy can be tried before it serves."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tenure.belonging import starting_app
from tenure.cli.apps import Named, NoApp, app_and_plan, frames_of, told
from tenure.cli.exits import Exit
from tenure.cli.lines import tell_document
from tenure.cli.terminal import coloured, notices, output
from tenure.cli.timeline import Timeline
from tenure.errors import TenureError
from tenure.lifespan import running
from tenure.observers import watched_by
from tenure.ops.snapshot import Drawn, snapshot

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tenure.fastapi.application import Application
    from tenure.observers import End, What

VERSION = 1
"""Of the form of the document; it rises when something is taken away or means another thing."""

OUTCOMES = {
    Exit.FINE: "started and closed",
    Exit.FINDINGS: "failed",
    Exit.TIMEOUT: "not in time",
    Exit.INTERRUPTED: "interrupted",
}


class Watch:
    """
    An observer that knows the app which starts, and shows what goes on.

    Attributes:
        application: The app, from when it begins to start.
        drawn: What of its graph does not change.
        seconds: When the last start of a resource had ended, after the app's began.
    """

    def __init__(self, progress: Progress) -> None:
        self.application: Application | None = None
        self.drawn: Drawn | None = None
        self.seconds = 0.0
        self._progress = progress
        self._bar = progress.add_task("", total=None, pending="")
        self._began = perf_counter()

    def begin(self, what: What, name: str, scope: str) -> End:
        """Note the app at its start, and show what still starts."""
        del name, scope
        if what == "app" and self.application is None:
            self.application = cast("Application", starting_app())
            self.drawn = Drawn(self.application.graph)
            self._began = perf_counter()
        self._show()
        return self._started if what == "start" else self._ended

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Show nothing of pools."""

    def used(self, pool: str, seconds: float) -> None:
        """Show nothing of pools."""

    def timeline(self) -> Timeline | None:
        """Tell how it went, if it began."""
        if self.application is None or self.drawn is None:
            return None
        return Timeline(snapshot(self.application, self.drawn), self.seconds)

    def _started(self, error: BaseException | None) -> None:
        self.seconds = perf_counter() - self._began
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        del error
        self._show()

    def _show(self) -> None:
        tenants = self.application.lifetime.tenants.values() if self.application is not None else ()
        pending = [tenant.node.name for tenant in tenants if tenant.state == "starting"]
        ready = sum(tenant.state == "ready" for tenant in tenants)
        names = ", ".join(pending)
        self._progress.update(self._bar, total=len(tenants) or None, completed=ready, pending=names, refresh=True)


@dataclass
class Run:
    """
    One start and close.

    Attributes:
        watch: What was seen of it.
        exit: What came of it.
        error: What went wrong, in the form of tenure's errors.
        close_seconds: How long all closes took, if it had started.
    """

    watch: Watch
    exit: Exit = Exit.FINE
    error: str = ""
    close_seconds: float | None = None


def start(named: Named, timeout: float | None, *, as_json: bool) -> Exit:
    """Start an app's resources, say how that went, close them, and say how that went."""
    try:
        app, _ = app_and_plan(named)
    except (NoApp, TenureError) as error:
        return told(error)
    run = _run(app, timeout)
    _tell(app, run, as_json=as_json)
    return run.exit


def _run(app: FastAPI, timeout: float | None) -> Run:
    console = notices()
    columns = TextColumn("starting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), _Pending()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        run = Run(Watch(progress))
        try:
            with watched_by(run.watch), redirect_stdout(sys.stderr):
                asyncio.run(_start_and_close(app, run, timeout))
        except (KeyboardInterrupt, asyncio.CancelledError):
            run.exit, run.error = Exit.INTERRUPTED, "error: it was interrupted, and what had started was closed"
        except TenureError as error:
            run.exit, run.error = run.exit or Exit.FINDINGS, str(error).strip()
        except Exception as error:  # noqa: BLE001 (the app's own lifespan may raise anything)
            where = "".join(f"\n  {line}" for line in frames_of(error))
            run.exit, run.error = Exit.FINDINGS, f"error: {type(error).__name__}: {error}{where}"
    return run


async def _start_and_close(app: FastAPI, run: Run, limit: float | None) -> None:
    here = asyncio.current_task()
    if here is not None:
        # By this the loop is also woken by each signal: else asyncio may see Ctrl-C only once something else wakes it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    began = perf_counter()
    deadline = asyncio.timeout(limit)
    try:
        async with deadline, running(app):
            deadline.reschedule(None)  # closes have deadlines of their own
            began = perf_counter()
        run.close_seconds = perf_counter() - began
    except TimeoutError:
        if not deadline.expired():
            raise
        run.exit, run.error = Exit.TIMEOUT, f"error: it had not started after {limit:g} s, and what had was closed"


class _Pending(TextColumn):
    """What starts now; its names are no markup."""

    def __init__(self) -> None:
        super().__init__("{task.fields[pending]}", markup=False)


def _tell(app: FastAPI, run: Run, *, as_json: bool) -> None:
    timeline = run.watch.timeline()
    if as_json:
        whole: dict[str, Any] = {"schemaVersion": VERSION, "app": app.title, "outcome": OUTCOMES[run.exit]}
        tell_document({**whole, "error": run.error, "closeSeconds": run.close_seconds, **_document(timeline)})
        return
    if timeline is not None:
        console = output()
        console.print(*timeline.lines(console.width), *timeline.summary(), sep="\n", markup=False)
    if run.close_seconds is not None and timeline is not None:
        output().print(f"closed in {run.close_seconds:.3f} s: {timeline.closes()}", markup=False)
    if run.error:
        notices().print(coloured(run.error))


def _document(timeline: Timeline | None) -> dict[str, Any]:
    return timeline.document() if timeline is not None else {"readySeconds": None, "events": []}
