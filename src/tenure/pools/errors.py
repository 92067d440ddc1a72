"""What a borrower is told; most of it FastAPI answers 503, as `application/problem+json` with `Retry-After`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.errors import TenureError
from tenure.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence


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


class TransactionFailed(PoolError):
    """
    Raised in the place of a commit when a statement of the transaction has failed, and its error was caught.

    PostgreSQL commits nothing of such a transaction, and answers a commit by rolling back, which its drivers take for a
    commit.
    """

    code = "transaction-failed"


class BlockingCall(PoolError):
    """Raised when a sync connection is used in an event loop, which would stand still until the database answers."""

    code = "blocking-call"


class BudgetExceeded(PoolError):
    """Raised at start when the connections that are allowed do not suffice for the workers that share them."""

    code = "pool-budget"


def transaction_failed(name: str, path: Sequence[str] = ()) -> TransactionFailed:
    """Give the error of a transaction of a pool that cannot be committed."""
    msg = f"a statement in a transaction of pool `{name}` failed, and its error was caught: nothing can be committed"
    hint = "put what may fail into a transaction of its own, inside of this one: that is a savepoint"
    return TransactionFailed(msg, path=path, hint=hint)
