"""Health checks, as they are declared: what is asked of a resource's value, how often, and how much depends on it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypedDict, TypeVar, overload

from tenure.calls import location_of
from tenure.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

T_co = TypeVar("T_co", covariant=True)
V = TypeVar("V", bound="Verdict | Awaitable[Verdict]")


@dataclass(frozen=True)
class Degraded:
    """
    What a health check gives where its resource works, but not as well as it should; the app stays ready.

    Attributes:
        reason: What is amiss, in a few words.
    """

    reason: str


Verdict: TypeAlias = bool | Degraded | None
"""What a health check gives: nothing or True if all is well, False if not."""


class Words(TypedDict, total=False):
    """What may be said of a health check; `Resource.health` says what each means."""

    name: str
    timeout: float
    every: float
    critical: bool
    tags: Sequence[str]


@dataclass(frozen=True, eq=False)
class Check:
    """
    One health check of a resource, as declared.

    Attributes:
        name: What it is called, unique within an app.
        function: Takes the resource's value; async, or sync and then run in a thread.
        timeout: Seconds that it may take before that counts as a failure.
        every: Seconds from one run to the next.
        critical: Whether the app is not ready while it fails.
        tags: The groups that it is in.
        is_method: Whether it takes the object that has the resource first, as a method does.
        is_built_in: Whether it came with the resource; another of its name takes its place.

    Raises:
        DeclarationError: It has no name, a time is not above 0, or the tags are no words.
    """

    name: str
    function: Callable[..., Any]
    timeout: float = 0.8
    every: float = 5
    critical: bool = False
    tags: Sequence[str] = ()
    is_method: bool = False
    is_built_in: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name):
            msg = f"a health check has name={self.name!r}"
            raise DeclarationError(msg, hint="give it a word, or nothing: then it has its resource's name")
        if not (self.timeout > 0 and self.every > 0):
            msg = f"the health check `{self.name}` has timeout={self.timeout} and every={self.every}"
            raise DeclarationError(msg, hint="both are seconds above 0")
        if isinstance(self.tags, str) or not all(isinstance(tag, str) and tag for tag in self.tags):
            msg = f"the health check `{self.name}` has tags={self.tags!r}, which are no words"
            raise DeclarationError(msg, hint='write `tags=("db",)`')

    @property
    def location(self) -> str:
        """``file:line`` of the function."""
        return location_of(self.function)

    def bound(self, instance: object) -> Check:
        """Give the check of a method's resource as the object has it to which that is bound."""
        return replace(self, function=self.function.__get__(instance), is_method=False) if self.is_method else self


class Checked(Protocol):
    """What has health checks."""

    factory: Callable[..., Any]

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def add_check(self, check: Check) -> None:
        """Add one."""
        ...


class Health(Generic[T_co]):
    """What `health(...)` of a resource gives: it takes the function."""

    def __init__(self, resource: Checked, words: Words) -> None:
        self._resource = resource
        self._name = words.get("name", resource.name)
        self._words: Words = {**words, "name": self._name}

    @overload
    def __call__(self, check: Callable[[T_co], V], /) -> Callable[[T_co], V]: ...
    @overload
    def __call__(self, check: Callable[[Any, T_co], V], /) -> Callable[[Any, T_co], V]: ...
    def __call__(self, check: Callable[..., Any], /) -> Callable[..., Any]:
        """
        Declare that this function is a health check of the resource.

        Raises:
            DeclarationError: It is no function of the value alone.
        """
        function: Any = check.__func__ if isinstance(check, staticmethod) else check
        if not callable(function):
            msg = f"{check!r} cannot be a health check"
            raise DeclarationError(msg, hint="decorate a function that takes the resource's value")
        wants = _wanted(function)
        is_method = wants == 2 and _is_beside(function, self._resource.factory)  # noqa: PLR2004 (self, and the value)
        if wants != 1 and not is_method:
            msg = f"the health check `{self._name}` takes {wants} arguments, and is given one, the value"
            raise DeclarationError(
                msg,
                path=[f"written at {location_of(function)}"],
                hint="what else it needs, take in the resource's factory, and keep it in the value",
            )
        self._resource.add_check(Check(function=function, is_method=is_method, **self._words))
        return check


def effective(checks: Iterable[Check]) -> list[Check]:
    """Leave out what came with a resource where the program has declared another of its name."""
    found = list(checks)
    own = {check.name for check in found if not check.is_built_in}
    return [check for check in found if not (check.is_built_in and check.name in own)]


def _wanted(function: Callable[..., Any]) -> int:
    """Count the arguments that a function must be given; one that it may be given counts where there is none."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some built-in functions have no signature
        return 1
    positional = [each for each in parameters if each.kind <= each.VAR_POSITIONAL]
    open_ended = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    required = [each for each in parameters if each.default is each.empty and each.kind not in open_ended]
    return len(required) or min(len(positional), 1)


def _is_beside(function: Callable[..., Any], factory: Callable[..., Any]) -> bool:
    """Tell whether both are written in the body of one class."""
    owner, its = (str(getattr(each, "__qualname__", "")).rpartition(".")[0] for each in (factory, function))
    return bool(owner) and owner == its and not owner.endswith("<locals>")
