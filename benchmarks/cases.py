"""What is timed: a contender's app for a work, as a client has it before it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.contenders import BASELINE
from benchmarks.works import Against

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastapi import FastAPI

    from benchmarks.contenders import Contender
    from benchmarks.works import Moment, Work


@dataclass(frozen=True)
class Case:
    """
    A contender at a work.

    Attributes:
        work: What is wanted.
        contender: Who does it.
        overridden: Whether `dependency_overrides` has an entry, one that has nothing to do with the request.
    """

    work: Work
    contender: Contender
    overridden: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.work.title})"

    @property
    def name(self) -> str:
        """What it is called within its work."""
        return f"{self.contender.name}{' + override' if self.overridden else ''}"

    @property
    def against(self) -> str | None:
        """The name of the case of the same work that its ratio is to; None if it is that one itself."""
        if self.work.against is Against.ITSELF:
            return self.contender.name if self.overridden else None
        return BASELINE if self.name != BASELINE else None

    @property
    def closes(self) -> Moment | None:
        """When its session is closed."""
        return self.contender.entries[self.work].closes

    @property
    def note(self) -> str:
        """What else is not as the work says."""
        return self.contender.entries[self.work].note

    def build(self) -> FastAPI:
        """Make the app."""
        return self.contender.entries[self.work].build()

    def after_start(self, app: FastAPI) -> None:
        """Do what is done to an app that runs already."""
        if self.overridden:
            app.dependency_overrides[unrelated] = unrelated

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Set the contender's variables for as long as its app starts and runs."""
        wanted = self.contender.environment
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


async def unrelated() -> None:
    """Stand for a dependency that no route here has."""


def cases_of(work: Work, contenders: Iterable[Contender]) -> list[Case]:
    """Give the cases that are timed in one another's company: those of one work."""
    taking_part = [contender for contender in contenders if work in contender.entries]
    cases = [Case(work, contender) for contender in taking_part]
    if work.against is Against.ITSELF:
        cases += [Case(work, contender, overridden=True) for contender in taking_part]
    return cases
