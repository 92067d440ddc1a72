"""A class at `cluster` scope, as a worker has it: it joins the Ray cluster, and gets a handle on the object there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tenure.errors import MissingExtra
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from tenure.remote.handle import Remote
    from tenure.remote.hosted import Apart

TO_SAY = 3.0
"""Seconds of the time for the start, or a quarter if that is less, in which to find out what a cluster lacks."""


def context(apart: Apart) -> Callable[..., AbstractAsyncContextManager[Remote[Any]]]:
    """
    Give an async context manager that gives a handle on an object that lives in a Ray cluster.

    The first worker of a deployment has Ray make it; it stays when the last has left.

    Raises:
        DeclarationError: Another process could not find the class.
        MissingExtra: Ray is not installed.
    """
    apart.place()
    resource = apart.resource
    if find_spec("ray") is None:
        msg = f"`{resource.name}` is a class at cluster scope, which Ray serves, and that is not installed"
        raise MissingExtra(msg, path=[f"declared at {resource.location}"], hint='pip install "tenure[ray]"')

    @asynccontextmanager
    async def begun() -> AsyncGenerator[Remote[Any]]:
        patience = max(resource.start_timeout - TO_SAY, resource.start_timeout * 0.75)
        until = asyncio.get_running_loop().time() + patience
        starting = await in_own_thread(_loaded)
        async with starting(apart, until) as handle:
            yield handle

    return begun


def _loaded() -> Callable[[Apart, float], AbstractAsyncContextManager[Remote[Any]]]:
    from tenure.remote.ray.starting import begun  # noqa: PLC0415 (it takes seconds, and the event loop goes on)

    return begun
