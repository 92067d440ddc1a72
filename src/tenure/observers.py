"""Who is told what starts, closes, is checked and is lent: nobody, unless something here listens."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    End = Callable[[BaseException | None], None]

What = Literal["app", "start", "close", "check"]
"""An app's start as a whole, or one resource's start, close or health check."""


class Observer(Protocol):
    """What is told; none of it may raise or wait."""

    def begin(self, what: What, name: str, scope: str) -> End:
        """Note that something begins; what it gives is called at the end, in the same task, with what went wrong."""
        ...

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Note that a borrower has waited for a connection, and what it was told if it did not get one."""
        ...

    def used(self, pool: str, seconds: float) -> None:
        """Note that a connection was given back, and for how long it was out."""
        ...


class Unobserved:
    """The observer of what nobody observes."""

    def begin(self, what: What, name: str, scope: str) -> End:
        """Do nothing."""
        del what, name, scope
        return _nothing

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Do nothing."""

    def used(self, pool: str, seconds: float) -> None:
        """Do nothing."""


def _nothing(error: BaseException | None) -> None:
    del error


_NOBODY = Unobserved()
_observer: ContextVar[Observer] = ContextVar("tenure_observer", default=_NOBODY)


@contextmanager
def observed_by(observer: Observer) -> Generator[None]:
    """Let what starts in this block, and the tasks that it creates, tell an observer."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def observer() -> Observer:
    """Give who is to be told here."""
    return _observer.get()
