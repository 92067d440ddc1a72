"""What a contender says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI

    from benchmarks.works import Moment, Work


@dataclass(frozen=True)
class Entry:
    """
    How a contender does one work.

    Attributes:
        build: Makes the app.
        closes: When its session is closed, which may be another moment than the work wants: the table then says so.
        note: What else is not the same as the work says.
    """

    build: Callable[[], FastAPI]
    closes: Moment | None
    note: str


@dataclass
class Contender:
    """
    A library, or one way to use it.

    Attributes:
        name: What tables and pictures call it.
        packages: What is installed for it; their versions are in the results.
        environment: Variables that are set while its apps start.
        restarts: Whether its app runs only while it is measured itself, so that whatever it does to FastAPI is not
            a part of what the others are measured on.
        entries: How it does which work.
    """

    name: str
    packages: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: bool = False
    entries: dict[Work, Entry] = field(default_factory=dict)

    def does(self, work: Work, build: Callable[[], FastAPI], *, closes: Moment | None = None, note: str = "") -> None:
        """Say how it does a work; its session closes when the work wants, unless said otherwise."""
        self.entries[work] = Entry(build, closes or work.closes, note)
