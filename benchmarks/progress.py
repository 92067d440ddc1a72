"""What a person sees meanwhile: how far it is, and each number as it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType


FILE_WIDTH = 160


class Progress:
    """A bar and lines above it; drawn between measurements only, never by a thread during one."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = FILE_WIDTH  # a log has no edge to wrap at
        columns = (TextColumn("{task.description:<42}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self._bars = Bars(*columns, TimeElapsedColumn(), console=self.console, auto_refresh=False, transient=True)
        self._task = self._bars.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def expect(self, steps: int | None) -> None:
        """Begin anew, with so many steps to come."""
        self._bars.reset(self._task, total=steps)
        self._bars.refresh()

    def advance_to(self, what: str) -> None:
        """Say that a step is done, and of what."""
        self._bars.update(self._task, description=what, advance=1)
        self._bars.refresh()

    def say(self, what: RenderableType) -> None:
        """Print above the bar."""
        self.console.print(what)
        self._bars.refresh()
