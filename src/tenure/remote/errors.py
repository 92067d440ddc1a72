"""What a caller of an object in another process is told; what passes by itself FastAPI answers 503 or 504."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.errors import TenureError
from tenure.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence


class RemoteError(TenureError):
    """The base of what a call of an object in another process raises, beside what the object itself does."""

    code = "remote"


class RemoteFailure(RemoteError):
    """
    Raised when the object has raised an error whose class is not known in this process, or cannot be made anew.

    Attributes:
        kind: The class of that error, with its module.
    """

    code = "remote-failure"

    def __init__(self, message: str, *, kind: str = "", path: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, path=path, hint=hint)
        self.kind = kind


class NoCluster(RemoteError):
    """Raised at the start when there is no Ray cluster that this process can join; tenure starts none."""

    code = "no-cluster"


class Unanswered(RemoteError, Refusal):
    """The base of what passes by itself: FastAPI answers it so, unless an exception handler of the app's does."""

    code = "unanswered"


class OwnerDied(Unanswered):
    """Raised when the process in which the object lives ended while it was called: the call may have run, or not."""

    code = "owner-died"


class NotBegun(OwnerDied):
    """Raised where a process that ends takes no more calls: this one has not run, and is made of the next process."""


class OwnerBusy(Unanswered):
    """Raised when as many calls wait for the object as may; this one has not run."""

    code = "owner-busy"
    told = "the service is too busy at the moment"


class CallTimeout(Unanswered):
    """Raised when a call was not answered in time; it may run on, if it had begun."""

    code = "call-timeout"
    status = 504
    told = "the service did not answer in time"
