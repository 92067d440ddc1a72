"""How an object that lives in a process of its own is served: how many threads, how many may wait, for how long."""

from __future__ import annotations

import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tenure.errors import DeclarationError
from tenure.factories import without_partial
from tenure.scopes import is_shared

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tenure.remote.calling import Calling
    from tenure.resources import Resource

C = TypeVar("C", bound=type)
F = TypeVar("F", bound="Callable[..., Any]")

MAIN = "is in the program's main module, which another process cannot import"
LOCAL = "is written in a function, where another process cannot find it"
AT_TOP = "put it into a module, at its top"

_HOSTED = "__tenure_hosted__"
_IDEMPOTENT = "__tenure_idempotent__"

RAY_OPTIONS = frozenset(
    {
        "accelerator_type",
        "enable_task_events",
        "fallback_strategy",
        "label_selector",
        "memory",
        "num_cpus",
        "num_gpus",
        "object_store_memory",
        "resources",
        "runtime_env",
        "scheduling_strategy",
    }
)
"""Ray's options for an actor that say where it may run and what it gets; the others are ours to say."""


@dataclass(frozen=True)
class Hosted:
    """
    How an object is served.

    Attributes:
        threads: How many sync methods run at once.
        max_waiting: How many calls may wait or run before others are refused.
        timeout: Seconds that a call may take, from when it is made.
        ray: Ray's options, for one that lives in a cluster.
    """

    threads: int = 1
    max_waiting: int = 64
    timeout: float = 30
    ray: Mapping[str, Any] = field(default_factory=dict[str, Any])


def hosted(
    *, threads: int = 1, max_waiting: int = 64, timeout: float = 30, ray: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """
    Say how objects of a class are served where they live in a process of their own.

    Args:
        threads: How many sync methods run at once: with 1, which is the default, the class needs no locks. Async
            methods run in the event loop beside them.
        max_waiting: How many calls may wait or run; more are refused at once, with `OwnerBusy`.
        timeout: Seconds that a call may take, from when it is made, unless the caller says otherwise.
        ray: Where it may run and what it gets at `cluster` scope, in Ray's words: `num_gpus`, `num_cpus`, `memory`,
            `resources`, `runtime_env` and the like. Of no effect at `host` scope.

    Raises:
        DeclarationError: A number is not above 0, or Ray has no such option for us to give.
    """
    if not (threads > 0 and max_waiting > 0 and timeout > 0):
        msg = f"hosted(threads={threads}, max_waiting={max_waiting}, timeout={timeout}): each must be above 0"
        raise DeclarationError(msg)
    if unknown := sorted(set(ray or {}) - RAY_OPTIONS):
        msg = f"hosted(ray={{…}}) has {', '.join(map(repr, unknown))}, which cannot be said here"
        raise DeclarationError(msg, hint=f"use some of {', '.join(sorted(RAY_OPTIONS))}")

    def marked(kind: C) -> C:
        setattr(kind, _HOSTED, Hosted(threads, max_waiting, timeout, dict(ray or {})))
        return kind

    return marked


def idempotent(method: F) -> F:
    """Say that a method may run twice: a call of it is made once more when the object's process dies under it."""
    setattr(method, _IDEMPOTENT, True)
    return method


def is_idempotent(method: Callable[..., Any]) -> bool:
    """Tell whether a method may run twice."""
    return bool(getattr(method, _IDEMPOTENT, False))


def hosted_as(kind: type) -> Hosted:
    """Give how objects of a class are served."""
    found = getattr(kind, _HOSTED, None)
    return found if isinstance(found, Hosted) else Hosted()


class Apart(ABC):
    """
    How a resource's value lives in a process of its own, which workers call.

    Attributes:
        resource: Its declaration.
        is_in_cluster: Whether that process is one of a Ray cluster, and not of this machine.
    """

    is_in_cluster = False

    def __init__(self, resource: Resource[Any]) -> None:
        self.resource = resource

    @abstractmethod
    def place(self) -> tuple[str, str]:
        """
        Give the module and the name by which another process finds the declaration.

        Raises:
            DeclarationError: It could not find it.
        """

    @abstractmethod
    def owned(self, home: Path | None = None) -> Resource[Any]:
        """
        Give the resource as its own process has it: one of that process, which may take what an app's may.

        Its value is the object whose methods are called; `home` is the folder of that process, where it is one.
        """

    @abstractmethod
    def handle(self, client: Calling[Any]) -> AbstractAsyncContextManager[Any]:
        """Give what a worker has for a value, as long as it is joined."""

    def environment(self) -> dict[str, str]:
        """Give what is set in the environment of its process, beside the worker's."""
        return {}

    def ends(self, served: Any) -> None:  # noqa: ANN401, B027 (any object; it need not know)
        """Tell the object that its process is about to end; calls that are under way end first."""

    def refusal(self, problem: str, hint: str, *, what: str) -> DeclarationError:
        """Say why another process could not find it."""
        msg = f"the {what} of `{self.resource.name}` {problem}"
        return DeclarationError(msg, path=[f"declared at {self.resource.location}"], hint=hint)


def apart_of(call: Any) -> Apart | None:  # noqa: ANN401 (any dependency)
    """Say how a dependency's value lives in a process of its own; nothing if it does not."""
    scope = getattr(call, "scope", None)
    if scope is None or not is_shared(scope):
        return None
    declared = getattr(call, "apart", None)
    if isinstance(declared, Apart):
        return declared
    return _ApartClass(call) if inspect.isclass(without_partial(call.factory)) else None


def found(place: Any, order: Mapping[str, Any]) -> Apart:  # noqa: ANN401 (whatever a module has)
    """Say how what another process was told to make lives in it: a declaration, or the class that one was made of."""
    declared = apart_of(place)
    if declared is not None and not isinstance(declared, _ApartClass):
        return declared
    from tenure.resources import Resource  # noqa: PLC0415 (which imports this, by way of what it tells type checkers)

    timeouts = {name: order[name] for name in ("start_timeout", "close_timeout")}
    return _ApartClass(Resource(class_of(place), scope="host", name=order["resource"], **timeouts))


class _ApartClass(Apart):
    """A class, of which there is one object."""

    def __init__(self, resource: Resource[Any]) -> None:
        super().__init__(resource)
        self.is_in_cluster = resource.scope == "cluster"

    def place(self) -> tuple[str, str]:
        kind = self.resource.factory
        if not inspect.isclass(kind):
            msg = f"`{self.resource.name}` is to live in a process of its own, and is made by a partial class"
            raise DeclarationError(msg, path=[f"declared at {self.resource.location}"], hint="write a subclass instead")
        module, name = kind.__module__, kind.__qualname__
        problem = ""
        if module == "__main__":
            problem = MAIN
        elif "<locals>" in name:
            problem = LOCAL
        elif class_of(attrgetter(name)(sys.modules[module])) is not kind:
            problem = f"is not what `{module}.{name}` is"
        if problem:
            raise self.refusal(problem, AT_TOP, what="class")
        return module, name

    def owned(self, home: Path | None = None) -> Resource[Any]:
        del home
        resource = self.resource
        return resource.made_by(resource.factory, scope="app", name=resource.name, location=resource.location)

    @asynccontextmanager
    async def handle(self, client: Calling[Any]) -> AsyncGenerator[Any]:
        from tenure.remote.handle import Remote  # noqa: PLC0415 (which imports this)

        kind = cast("type[Any]", self.resource.factory)
        yield Remote(client, kind, hosted_as(kind).timeout)


def class_of(found: Any) -> Any:  # noqa: ANN401 (whatever a module has)
    """Give the class that stands under a name, which may be the resource that was made of it."""
    return getattr(found, "factory", found)


def program_of(kind: type) -> str:
    """Give what tells one writing of a class from another, as far as its source is there; reads a file."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
