"""The end of an object that lives in a Ray cluster: nothing else ends it but the cluster's own end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tenure.errors import DeclarationError
from tenure.remote.hosted import apart_of, hosted_as
from tenure.remote.ray.actors import actor_name
from tenure.remote.ray.cluster import joined, ray
from tenure.state.deployments import deployment_name
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from tenure.resources import Resource

LOOK = 0.02
"""Seconds between two looks whether it is gone."""


async def end(resource: Resource[Any], *, deployment: str) -> bool:
    """
    End the object of a class at cluster scope: once calls under way are answered, and what it has taken is closed.

    Calls that are not answered within the class's `timeout` raise `OwnerDied`; what it has taken has `close_timeout`.
    What is called meanwhile waits for the next object. Of a worker that has not called meanwhile, and so has not heard
    of the end, the first call raises `OwnerDied`. Who calls next makes the new object, of the program of its worker: so
    `end` belongs into a deployment after the last worker of the old program has ended.

    Args:
        resource: The resource, as it is declared.
        deployment: Whose.

    Returns:
        Whether there was one.

    Raises:
        DeclarationError: It is no class at cluster scope.
        NoCluster: There is no Ray cluster.
    """
    apart = apart_of(resource)
    if apart is None or not apart.is_in_cluster:
        msg = f"`{resource.name}` has no object in a Ray cluster that could be ended"
        raise DeclarationError(msg, path=[f"declared at {resource.location}"], hint='end a class at "cluster" scope')
    patience = hosted_as(cast("type", resource.factory)).timeout + resource.close_timeout
    namespace = deployment_name(deployment)
    async with joined(namespace):
        try:
            actor = await in_own_thread(lambda: ray.get_actor(actor_name(apart), namespace))
        except ValueError:
            return False
        with suppress(TimeoutError, ray.exceptions.RayError):
            async with asyncio.timeout(patience):
                await actor.close.remote()
        await in_own_thread(lambda: ray.kill(actor))
        with suppress(TimeoutError, ray.exceptions.RayError):
            async with asyncio.timeout(resource.close_timeout):
                while True:  # it is killed a moment later
                    await actor.stay.remote("")
                    await asyncio.sleep(LOOK)
    return True
