"""The start of a worker that calls an object in a Ray cluster; importing this loads Ray, which takes seconds."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from tenure import __version__
from tenure.remote.errors import RemoteError
from tenure.remote.hosted import program_of
from tenure.remote.ray import actors
from tenure.remote.ray.client import Client
from tenure.remote.ray.cluster import joined
from tenure.state.deployments import current_deployment, current_state
from tenure.threads import in_own_thread, in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tenure.remote.handle import Remote
    from tenure.remote.hosted import Apart

logger = logging.getLogger("tenure")


OTHERWISE = (
    "`%s` lives in the cluster, and its class is written otherwise here: it was made by another version of "
    "the program; `tenure.remote.ray.end` ends it"
)


@asynccontextmanager
async def begun(apart: Apart, until: float) -> AsyncGenerator[Remote[Any]]:
    """
    Join the cluster, have the object made unless it is there, and give a handle on it.

    Args:
        apart: How the object lives there.
        until: When all of that is to be done, in the event loop's time.

    Raises:
        NoCluster: There is no cluster.
        TenureError: The object cannot be made, or has no place.
    """
    resource = apart.resource
    deployment, state = current_deployment(), current_state()
    async with joined(deployment):
        client = Client(resource.name, partial(actors.actor_of, apart, deployment, state))
        try:
            told = await _begun(client, apart, until)
            if told["version"] != __version__:
                msg = (
                    f"`{resource.name}` lives in the cluster under tenure {told['version']}, and this is {__version__}"
                )
                raise RemoteError(msg, hint="end it with the old program: `tenure.remote.ray.end`")
            if told["program"] != await in_worker(partial(program_of, cast("type", resource.factory))):
                logger.warning(
                    OTHERWISE,
                    resource.name,
                    extra={"tenure_event": "object-outdated", "tenure_resource": resource.name},
                )
            async with apart.handle(client) as handle:
                yield handle
        finally:
            client.close()


async def _begun(client: Client, apart: Apart, until: float) -> dict[str, Any]:
    limit = asyncio.timeout_at(until)
    try:
        async with limit:
            return await client.begin()
    except TimeoutError:
        if not limit.expired():
            raise
        msg = f"Ray has not started `{apart.resource.name}`: {await in_own_thread(partial(actors.wants, apart))}"
        hint = "give the cluster what it asks for, or ask for less; or say that its start takes longer"
        raise RemoteError(msg, hint=hint) from None
