"""What a borrower is told; most of it FastAPI answers 503, as `application/problem+json` with `Retry-After`."""

from __future__ import annotations

from tenure.errors import TenureError
from tenure.refusals import Refusal


class PoolError(TenureError):
    """The base of what a pool raises."""

    code = "pool"


class Unavailable(PoolError, Refusal):
    """The base of what passes by itself: FastAPI answers it 503, unless an exception handler of the app's does."""

    code = "unavailable"


class PoolExhausted(Unavailable):
    """Raised when all connections were out for as long as a borrower waits; its path names who holds them."""

    code = "pool-exhausted"
    told = "the service is too busy at the moment"


class NestedBorrow(Unavailable):
    """Raised when a borrower that holds a connection asks for another, and all who hold one wait for another too."""

    code = "nested-borrow"
    told = "the service is too busy at the moment"


class Unreachable(Unavailable):
    """
    Raised when what the pool leads to does not answer, is away or restarts.

    Where a commit was under way, it may have been done or not.
    """

    code = "unreachable"
    told = "the database does not answer at the moment"


class ConcurrentUse(PoolError):
    """Raised when two tasks open transactions on one connection at once; its path names both places."""

    code = "concurrent-use"


class BlockingCall(PoolError):
    """Raised when a sync connection is used in an event loop, which would stand still until the database answers."""

    code = "blocking-call"


class BudgetExceeded(PoolError):
    """Raised at start when the connections that are allowed do not suffice for the workers that share them."""

    code = "pool-budget"
