"""What lives in a process of its own, as a worker has it: it joins that process, and gets a handle on the object."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from tenure.calls import WORKING_FOLDER
from tenure.errors import HostServiceError
from tenure.host import locks
from tenure.remote.client import Client
from tenure.remote.service import Owner
from tenure.state.deployments import current_deployment, current_state
from tenure.state.stores import places
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from tenure.remote.hosted import Apart


def is_served(apart: Apart, deployment: str) -> bool:
    """Tell whether workers of a deployment on this machine have a process for it; blocks a little."""
    return locks.is_held(places.settled(deployment, ".".join(apart.place())) / "keeper")


def context(apart: Apart) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """
    Give an async context manager that gives what a worker has of a value that lives in a process of its own.

    The first worker of a deployment on a machine starts that process; it ends when the last has left. What keeps it
    from starting is raised as it was raised there.

    Raises:
        DeclarationError: Another process could not find the declaration.
    """
    module, name = apart.place()
    resource = apart.resource

    @asynccontextmanager
    async def joined() -> AsyncGenerator[Any]:
        deployment = current_deployment()
        folder = await in_worker(partial(places.settled, deployment, f"{module}.{name}"))
        order = {
            "module": module,
            "name": name,
            "resource": resource.name,
            "folder": str(WORKING_FOLDER),
            "deployment": deployment,
            "state": current_state(),
            "environment": apart.environment(),
            "start_timeout": resource.start_timeout,
            "close_timeout": resource.close_timeout,
        }
        owner = Owner(folder, order=order, start_timeout=resource.start_timeout)
        try:
            await owner.__aenter__()
        except HostServiceError as error:
            failure = await in_worker(owner.failure)
            raise failure or error from error
        try:
            client = Client(resource.name, owner)
            try:
                await client.connected()
                async with apart.handle(client) as handle:
                    yield handle
            finally:
                client.close()
        finally:
            owner.release()

    return joined
