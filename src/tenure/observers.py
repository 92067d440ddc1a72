"""Who is told what starts, closes, is checked and is lent: nobody, unless something here listens."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    End = Callable[[BaseException | None], None]

What = Literal["app", "start", "stop", "close", "check"]
"""An app's start as a whole, one resource's start; the app's close, one resource's close; a health check."""


class Observer(Protocol):
    """What is told; none of it may raise or wait."""

    def begin(self, what: What, name: str, scope: str) -> End:
        """Note that something begins; what it gives is called at the end, in the same task, with what went wrong."""
        ...

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Note that a borrower has waited for a connection, and what it was told if it got none; from any thread."""
        ...

    def used(self, pool: str, seconds: float) -> None:
        """Note that a connection was given back, and for how long it was out."""
        ...


class Pooled(Protocol):
    """A pool of connections, as observers see it."""

    name: str

    @property
    def stats(self) -> Any:  # noqa: ANN401 (of a module that knows more than this one)
        """How it is doing; from any thread."""
        ...


_watching: ContextVar[tuple[Observer, ...]] = ContextVar("tenure_watching", default=())


class Observers:
    """
    All who observe one app: who watches where it is made, and whoever is added, before it starts or while it runs.

    Attributes:
        pools: Those that are open now; never changed in place, so that any thread may read them.
    """

    def __init__(self) -> None:
        self._all = _watching.get()
        self.pools: tuple[Pooled, ...] = ()

    def add(self, observer: Observer) -> None:
        """Let another be told from now on."""
        self._all = (*self._all, observer)

    def opened(self, pool: Pooled) -> None:
        """Note that a pool opens."""
        self.pools = (*self.pools, pool)

    def closed(self, pool: Pooled) -> None:
        """Note that it has closed."""
        self.pools = tuple(each for each in self.pools if each is not pool)

    def begin(self, what: What, name: str, scope: str) -> End:
        """Tell each, and give what tells each of the end, the last first and once: what had a good end keeps it."""
        ends = [observer.begin(what, name, scope) for observer in self._all]

        def end(error: BaseException | None) -> None:
            while ends:
                ends.pop()(error)

        return end

    def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
        """Tell each."""
        for observer in self._all:
            observer.waited(pool, seconds, error)

    def used(self, pool: str, seconds: float) -> None:
        """Tell each."""
        for observer in self._all:
            observer.used(pool, seconds)


@contextmanager
def watched_by(observer: Observer) -> Generator[None]:
    """Let each app that is made in this block tell an observer from its start on."""
    token = _watching.set((*_watching.get(), observer))
    try:
        yield
    finally:
        _watching.reset(token)


_observers: ContextVar[Observers] = ContextVar("tenure_observers")


@contextmanager
def observed_by(observers: Observers) -> Generator[None]:
    """Let what starts in this block, and the tasks that it creates, tell these."""
    token = _observers.set(observers)
    try:
        yield
    finally:
        _observers.reset(token)


def observer() -> Observers:
    """Give who is to be told here: those of the app that starts what asks, and nobody where none does."""
    return _observers.get(None) or Observers()
