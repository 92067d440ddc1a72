"""
Every error that tenure raises, in one tree.

::

    TenureError
    ├── DeclarationError          declaration         `scoped` or a handle was given something it cannot use
    ├── CalledDirectly            called-directly     `Depends(pool())` instead of `Depends(pool)`
    ├── MissingExtra              missing-extra       an optional package is not installed
    ├── PlanError                 plan                one report of all the findings in a graph
    │   └── .findings
    ├── Finding
    │   ├── CaptiveDependency     captive-dependency  something holds what lives shorter than itself
    │   ├── DependencyCycle       dependency-cycle    something needs itself
    │   ├── DuplicateName         duplicate-name      two resources answer to one name
    │   ├── RequestData           request-data        an app-scoped factory asks for request data
    │   ├── WrongConnection       wrong-connection    a websocket route needs `Request`, or a route `WebSocket`
    │   └── MissingEngine         missing-engine      a scope that nothing here can serve
    ├── StartFailed               start-failed        a resource did not start; what had started is closed
    ├── CloseFailed               close-failed        one group of every close that failed
    ├── CloseError                close-error         one close that failed, or was left behind
    ├── NotRunning
    │   ├── NotStarted            not-started         used before start, or without a lifespan
    │   ├── AlreadyClosed         already-closed      used after close
    │   │   └── ModelClosed       model-closed        a model is called while it closes (in `tenure.models.errors`)
    │   ├── OtherProcess          other-process       used in a process that did not start it
    │   ├── OtherLoop             other-loop          used in an event loop that did not start it
    │   ├── ResourceFailed        resource-failed     used after its task had ended by itself
    │   ├── StillStarting         still-starting      what a request needs has not started yet (in `tenure.refusals`)
    │   └── NeverStarted          never-started       what a request needs did not start (in `tenure.refusals`)
    ├── Refusal                   refusal             the base of what FastAPI answers 503 (in `tenure.refusals`)
    ├── UnsupportedFastAPI        unsupported-fastapi FastAPI keeps a request's open things where we do not know
    ├── OverrideError             override            an override that is not a dependency
    ├── HostServiceError          host-service        a service of this host did not start or answer
    │   └── NoPostgres            no-postgres         no PostgreSQL was found
    ├── ModelRefused              model-refused       a model file that will not be loaded
    ├── ModelError                model               (these are in `tenure.models.errors`)
    │   ├── ModelLoadFailed       model-load          a model could not be loaded
    │   ├── WarmupFailed          model-warmup        a model has failed at its warm-up
    │   ├── NotInvariant          model-not-invariant an item has another result in a batch than alone
    │   ├── ModelFailed           model-failed        a model gave no proper result
    │   ├── ModelBusy             model-busy          as many items wait as may, and FastAPI answers 503
    │   └── ModelLate             model-late          a result was not there in time, and FastAPI answers 504
    ├── PoolError                 pool                (these are in `tenure.pools.errors`)
    │   ├── Unavailable           unavailable         what passes by itself, and FastAPI answers 503
    │   │   ├── PoolExhausted     pool-exhausted      no connection was free in time
    │   │   ├── NestedBorrow      nested-borrow       all who hold a connection wait for another
    │   │   └── Unreachable       unreachable         the server is away, restarts or does not answer
    │   ├── ConcurrentUse         concurrent-use      two tasks have transactions on one connection
    │   ├── TransactionFailed     transaction-failed  a statement failed, was forgiven, and nothing can be committed
    │   ├── BlockingCall          blocking-call       a sync connection is used in an event loop
    │   └── BudgetExceeded        pool-budget         fewer connections than workers, or more workers than said
    ├── RemoteError               remote              (these are in `tenure.remote`)
    │   ├── RemoteFailure         remote-failure      an object has raised an error whose class is not known here
    │   ├── NoCluster             no-cluster          there is no Ray cluster that this process can join
    │   └── Unanswered            unanswered          what passes by itself, and FastAPI answers 503 or 504
    │       ├── OwnerDied         owner-died          the process in which an object lives ended under a call
    │       ├── OwnerBusy         owner-busy          as many calls wait for an object as may
    │       └── CallTimeout       call-timeout        a call was not answered in time
    └── StateError
        ├── StateUnavailable      state-unavailable   where state is kept cannot be reached or written
        ├── StateMismatch         state-mismatch      what is kept there is another user's, version's or machine's
        ├── StateFull             state-full          no room for one more name, process or for a larger number
        ├── StateTooLarge         state-too-large     a key, value or message is larger than its bound
        ├── NotSerialisable       not-serialisable    a value that cannot be written as its handle says
        ├── LoadTimeout           load-timeout        a value that many wait for was not loaded in time
        ├── LockTimeout           lock-timeout        a lock was not free in time
        ├── LockLost              lock-lost           a lease ran out under its holder: another may have the lock
        ├── NotReentrant          not-reentrant       a task waits for what it holds itself
        └── OnceFailed            once-failed         what another worker was to do for all has failed

Each class has one code, and each code has a section in ``docs/errors.md``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCS = "docs/errors.md"


class TenureError(Exception):
    """
    The base of every error that tenure raises.

    Attributes:
        message: What is wrong, in one sentence without a full stop.
        path: Lines that show where: the way from the user to the culprit, each with file and line.
        hint: The cure; empty when there is none to name.
        code: A stable word for this kind of error, the anchor of its section in ``docs/errors.md``.
    """

    code: ClassVar[str] = "tenure"

    def __init__(self, message: str, *, path: Sequence[str] = (), hint: str = "") -> None:
        Exception.__init__(self, message)  # not another base of a subclass, which may take something else
        self.message = message
        self.path = tuple(path)
        self.hint = hint

    def __str__(self) -> str:
        """Render code, message, path, hint and link as the terminal shows them."""
        parts = [f"error[{self.code}]: {self.message}", *(f"  {line}" for line in self.path)]
        if self.hint:
            parts += ["", f"hint: {self.hint}"]
        return "\n".join([*parts, f"see:  {self.link}"])

    @property
    def link(self) -> str:
        """Where the documentation explains this code."""
        return f"{DOCS}#{self.code}"


class DeclarationError(TenureError):
    """Raised when `scoped` or a handle is given something that cannot be what it says."""

    code = "declaration"


class CalledDirectly(TenureError):
    """Raised when a resource is called by hand, as in ``Depends(pool())``."""

    code = "called-directly"


class MissingExtra(TenureError):
    """Raised when a feature needs a package that is not installed; the hint says how to install it."""

    code = "missing-extra"


class Finding(TenureError):
    """One thing that is wrong with a graph; several make a `PlanError`."""

    code = "finding"


class CaptiveDependency(Finding):
    """Something would hold what lives shorter than itself."""

    code = "captive-dependency"


class DependencyCycle(Finding):
    """Something needs itself, by way of others or of an override."""

    code = "dependency-cycle"

    def __init__(self, name: str, *, path: Sequence[str]) -> None:
        cure = "take one of these parameters away, or let both depend on a third that holds what they share"
        super().__init__(f"`{name}` needs itself", path=path, hint=cure)
        self.name = name

    def __reduce__(self) -> tuple[partial[DependencyCycle], tuple[str]]:
        """Pickle by what it was made of, so that it crosses a process pool."""
        return partial(type(self), path=self.path), (self.name,)


class DuplicateName(Finding):
    """Two resources of one app answer to the same name."""

    code = "duplicate-name"


class RequestData(Finding):
    """An app-scoped factory asks for something that only a request has."""

    code = "request-data"


class WrongConnection(Finding):
    """A websocket route needs a resource that takes `Request`, or an HTTP route one that takes `WebSocket`."""

    code = "wrong-connection"


class MissingEngine(Finding):
    """A resource has a scope that nothing here can serve."""

    code = "missing-engine"


class PlanError(TenureError):
    """
    Raised before anything starts, with everything that is wrong with the graph in one report.

    Attributes:
        findings: Each `Finding`, in the order in which they were found.
    """

    code = "plan"

    def __init__(self, findings: Sequence[Finding], *, total: int) -> None:
        count = len(findings)
        super().__init__(f"{count} error{'s' * (count != 1)} in {total} dependenc{'y' if total == 1 else 'ies'}")
        self.findings = tuple(findings)
        self.total = total

    def __reduce__(self) -> tuple[partial[PlanError], tuple[tuple[Finding, ...]]]:
        """Pickle by what it was made of, so that it crosses a process pool."""
        return partial(type(self), total=self.total), (self.findings,)

    def __str__(self) -> str:
        """Render each finding, then one line that counts them."""
        return "\n\n".join(["", *(str(finding) for finding in self.findings), self.message])


class StartFailed(TenureError):
    """
    Raised when a resource fails to start, or is too slow; everything that had started is closed by then.

    Attributes:
        close_errors: What went wrong while closing what had started.
    """

    code = "start-failed"

    def __init__(
        self, message: str, *, path: Sequence[str] = (), hint: str = "", close_errors: Sequence[CloseError] = ()
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.close_errors = tuple(close_errors)

    def __str__(self) -> str:
        """Render the failure, then each close that failed too."""
        return "\n".join([super().__str__(), *(f"\nwhile closing what had started:\n{e}" for e in self.close_errors)])


class CloseError(TenureError):
    """One resource whose close raised, or that was left behind because it would not end."""

    code = "close-error"


class CloseFailed(TenureError, ExceptionGroup[CloseError]):
    """Raised after everything was closed, as one group of every close that failed."""

    code = "close-failed"

    def __new__(cls, errors: Sequence[CloseError]) -> Self:
        """Make the group; its message counts the failures."""
        message = f"{len(errors)} resource{'s' * (len(errors) != 1)} failed to close"
        return ExceptionGroup.__new__(cls, message, errors)

    def __init__(self, errors: Sequence[CloseError]) -> None:  # the group itself keeps the message, read-only
        self.path = tuple(line for error in errors for line in (error.message, *error.path))
        self.hint = ""

    def __reduce__(self) -> tuple[type[CloseFailed], tuple[tuple[CloseError, ...]]]:
        """Pickle by what it was made of, so that it crosses a process pool."""
        return type(self), (self.exceptions,)  # type: ignore[return-value] # a group's members are of its kind

    def derive(self, errors: Sequence[CloseError]) -> CloseFailed:  # type: ignore[override]
        """Make a group of the same kind from a part of its errors, as `split` and `subgroup` need."""
        return CloseFailed(errors)


class NotRunning(TenureError):
    """The base of every refusal to hand out a value that does not live here and now."""

    code = "not-running"


class NotStarted(NotRunning):
    """Raised when a resource is used before its app has started, or by an app without tenure's lifespan."""

    code = "not-started"


class AlreadyClosed(NotRunning):
    """Raised when a resource is used after its app has closed it."""

    code = "already-closed"


class OtherProcess(NotRunning):
    """Raised when a resource is used in a process other than the one that started it, such as a forked child."""

    code = "other-process"


class OtherLoop(NotRunning):
    """Raised when a resource is used in an event loop other than the one that started it."""

    code = "other-loop"


class ResourceFailed(NotRunning):
    """Raised when a resource is used whose own task ended after it had started; the cause says why."""

    code = "resource-failed"


class UnsupportedFastAPI(TenureError):
    """Raised when this version of FastAPI does not keep a request's exit stacks where tenure knows them."""

    code = "unsupported-fastapi"


class OverrideError(TenureError):
    """Raised when an override is not a dependency, or has no app to apply to."""

    code = "override"


class HostServiceError(TenureError):
    """Raised when a service that this host's workers share did not start or does not answer."""

    code = "host-service"


class NoPostgres(HostServiceError):
    """Raised when no PostgreSQL server program is found."""

    code = "no-postgres"


class ModelRefused(TenureError):
    """Raised when a model file is not what it is said to be, or could run code when it is loaded."""

    code = "model-refused"


class StateError(TenureError):
    """The base of every refusal of state that is shared; what had been acknowledged is kept."""

    code = "state"


class StateUnavailable(StateError):
    """Raised when the place where state is kept cannot be reached, read or written."""

    code = "state-unavailable"


class StateMismatch(StateError):
    """Raised when what is kept in the place of our state belongs to another user, version or machine."""

    code = "state-mismatch"


class StateFull(StateError):
    """Raised when there is no room for one more name or process, or for a number so large."""

    code = "state-full"


class StateTooLarge(StateError):
    """Raised when a key, value or message is larger than its bound; it was not kept or sent."""

    code = "state-too-large"


class NotSerialisable(StateError):
    """Raised when a value or message cannot be written as JSON, or as the type that its handle says."""

    code = "not-serialisable"


class LoadTimeout(StateError):
    """Raised when a value that a cache loads once for all who want it does not come in time."""

    code = "load-timeout"


class LockTimeout(StateError):
    """Raised when a lock was not free within the time that one would wait; the path says who has it, where known."""

    code = "lock-timeout"


class LockLost(StateError):
    """Raised when a lock's lease could not be renewed, so that another may have the lock; its block was cancelled."""

    code = "lock-lost"


class NotReentrant(StateError):
    """Raised when a task asks for a lock that it holds, or for a value that it is loading: it would wait for itself."""

    code = "not-reentrant"


class OnceFailed(StateError):
    """Raised when what one worker does for all that start with it has failed there."""

    code = "once-failed"
