"""Errors that are tenure's and a driver's at once: who expects the driver's catches it, FastAPI answers the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tenure.pools.errors import Unavailable

T = TypeVar("T", bound=Exception)

_kinds: dict[tuple[type, type, str], type[Any]] = {}


def twin(error: Unavailable, theirs: type[T], *, told: str | None = None) -> T:
    """
    Give an error that is of the kind of `error` and of the driver's kind, and says what `error` says.

    An exception handler of the app's for either kind takes it; one for the driver's goes first.

    Args:
        error: What a borrower is told.
        theirs: What the driver would have raised; it can be made of a message alone.
        told: What the client is told, if it is not what `error` tells.
    """
    ours = type(error)
    made: Any = _kind(ours, theirs, told or error.told)(error.message)
    ours.__init__(made, error.message, path=error.path, hint=error.hint)  # last: the driver's knows no path
    given: T = made
    return given


def _kind(ours: type[Unavailable], theirs: type[Exception], told: str) -> type[Any]:
    key = (ours, theirs, told)
    if key not in _kinds:
        # Theirs goes first: behind ours, an app's handler for it would come after FastAPI's for any HTTPException.
        bases: Any = (theirs, ours)
        _kinds[key] = type(theirs.__name__, bases, {"__module__": __name__, "__doc__": ours.__doc__, "told": told})
    return _kinds[key]
