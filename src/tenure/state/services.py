"""
Services of the host as host-scoped resources: each worker that starts joins the one that its machine has.

What is done once shares a value. A service is shared by itself: its keeper stops it when no process holds it, so every
process that needs it holds it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from tenure.errors import DeclarationError
from tenure.factories import opener
from tenure.host.supervisor import Service
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from tenure.resources import Resource


def gives_service(resource: Resource[Any], kind: object) -> bool:
    """
    Tell whether a resource gives a service of the host, as the type of its value says, or none where it needs none.

    Raises:
        DeclarationError: It gives a service in a way in which workers cannot join it: from a generator, at another
            scope than ``"host"``, or where the value may be something else.
    """
    kinds = list(_alternatives(kind))
    services = [each for each in kinds if isinstance(each, type) and issubclass(each, Service)]
    if not services:
        return False
    name = services[0].__name__
    if resource.scope != "host":
        problem = f"gives a service of one machine, `{name}`, to all machines"
        hint = '`@scoped("host")`: each machine has one of its own'
    elif resource.kind.closes:
        problem = f"gives a service, `{name}`, that it opens and closes itself, so that it would end with one worker"
        hint = f"return it as it was made, `-> {name}`: each worker enters it, and the last one that leaves ends it"
    elif any(each not in services and each is not NoneType for each in kinds):
        problem = f"gives a service, `{name}`, or something else, and a service is joined where a value is copied"
        hint = f"return the service or None, `-> {name} | None`, and let another function give the value"
    else:
        return True
    msg = f"the {resource.scope}-scoped `{resource.name}` {problem}"
    raise DeclarationError(msg, path=[f"declared at {resource.location}"], hint=hint)


def joined(resource: Resource[Any]) -> Callable[..., AbstractAsyncContextManager[Service | None]]:
    """
    Give what takes the arguments of a resource's factory, and gives an async context manager.

    That makes the service in this process, enters it, and leaves it on exit.
    """
    make = opener(resource.factory, resource.kind, enter_in=in_own_thread, exit_in=in_own_thread)

    @asynccontextmanager
    async def joining(**arguments: Any) -> AsyncGenerator[Service | None]:  # noqa: ANN401 (any value)
        async with make(**arguments) as service:
            if service is None:
                yield None
                return
            if not isinstance(service, Service):
                msg = f"`{resource.name}` is to give a service, and gave {type(service).__name__}"
                raise DeclarationError(msg, path=[f"declared at {resource.location}"])
            async with service as entered:
                yield entered

    return joining


def _alternatives(kind: Any) -> Iterator[Any]:  # noqa: ANN401 (any type)
    kind = getattr(kind, "__value__", kind)  # an alias of a `type` statement
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in {Union, UnionType}:
        for each in get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind
