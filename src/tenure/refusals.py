"""Errors that FastAPI answers by itself: 503, as `application/problem+json` with `Retry-After`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from starlette.exceptions import HTTPException

from tenure.errors import NotRunning, TenureError

if TYPE_CHECKING:
    from collections.abc import Sequence

RETRY_AFTER = 1
"""Seconds after which a client that was refused is told to come back."""


class Refusal(TenureError, HTTPException):
    """
    What is answered 503, or as `status` says, unless an exception handler of the app's answers it.

    The client is told `told` and nothing of how the service is built; what operators need is the error's own text.
    """

    code = "refusal"
    status: ClassVar[int] = 503
    told: ClassVar[str] = "the service cannot answer at the moment"

    def __init__(
        self, message: str, *, path: Sequence[str] = (), hint: str = "", retry_after: int = RETRY_AFTER
    ) -> None:
        TenureError.__init__(self, message, path=path, hint=hint)
        headers = {"Retry-After": str(retry_after), "Content-Type": "application/problem+json"}
        HTTPException.__init__(self, self.status, self.told, headers)

    __str__ = TenureError.__str__


class StillStarting(NotRunning, Refusal):
    """Raised when a request needs what an app that starts in the background has not started yet, and waited for it."""

    code = "still-starting"
    told = "the service is still starting"


class NeverStarted(NotRunning, Refusal):
    """Raised when a request needs what was to be started in the background, and the start has failed; see the cause."""

    code = "never-started"
    told = "the service could not start"
