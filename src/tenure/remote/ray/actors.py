"""The named actor in which an object lives: made by who comes first, and found by all others of its deployment."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tenure import __version__
from tenure.errors import DeclarationError
from tenure.remote.hosted import hosted_as
from tenure.remote.ray.cluster import ray
from tenure.remote.wire import What, packed

if TYPE_CHECKING:
    from tenure.remote.hosted import Apart

HOME = "tenure.actor"
"""Where the actor's class is: named and not imported, as it enters apps by the way that is above this layer."""
ROOM = 1000
"""Calls that an actor takes beyond those that may wait, so that they are refused and do not wait at Ray."""

Actor = Any
"""Ray's handle on an actor: its methods are made when they are asked for, and no type checker knows them."""


def actor_name(apart: Apart) -> str:
    """Give the name of an object's actor, within the namespace of the deployment."""
    module, name = apart.place()
    return f"{module}.{name}:{apart.resource.name}"


def actor_of(apart: Apart, deployment: str, state: str | None) -> tuple[Actor, bool]:
    """
    Find the actor of an object, or have Ray make it, and tell whether it is new; blocks, but not until it is there.

    It outlives this process, and Ray starts it anew however often it dies.

    Raises:
        DeclarationError: Ray does not take an option that the class says.
    """
    with suppress(ValueError):  # there is none
        return ray.get_actor(actor_name(apart), deployment), False
    module, name = apart.place()
    resource = apart.resource
    hosted = hosted_as(cast("type", resource.factory))
    order = {
        "version": __version__,
        "module": module,
        "name": name,
        "resource": resource.name,
        "deployment": deployment,
        "state": state,
        "start_timeout": resource.start_timeout,
        "close_timeout": resource.close_timeout,
    }
    kind: Any = ray.remote(importlib.import_module(HOME).Actor)
    try:
        made = kind.options(
            **hosted.ray,
            name=actor_name(apart),
            namespace=deployment,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=hosted.max_waiting + ROOM,
        ).remote(packed(What.CALL, order))
    except (TypeError, ValueError) as error:
        msg = f"Ray cannot make an actor for `{resource.name}`: {error}"
        raise DeclarationError(
            msg, path=[f"declared at {resource.location}"], hint="see Ray's options in `@hosted(ray={…})`"
        ) from error
    return made, True


def wants(apart: Apart) -> str:
    """Say what an actor asks for beside what the cluster has, for who waits for a place in vain."""
    asked = hosted_as(cast("type", apart.resource.factory)).ray
    has = {name: amount for name, amount in ray.cluster_resources().items() if not name.startswith("node:")}
    return f"it asks for {dict(asked)}, and the machines of the cluster have {has} in all"
