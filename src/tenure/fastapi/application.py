"""A FastAPI app while it runs: its graph, what it has started, and how a request gets a value."""

from __future__ import annotations

import logging
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tenure import belonging
from tenure.cancellation import uninterrupted
from tenure.errors import NotStarted, RequestData, StartFailed
from tenure.factories import opener
from tenure.fastapi import binding
from tenure.fastapi.caller import caller_of
from tenure.fastapi.draining import Drain
from tenure.fastapi.inputs import uses_security_scopes
from tenure.fastapi.instances import instance
from tenure.fastapi.overrides import in_force
from tenure.fastapi.plan import done_once
from tenure.fastapi.starting import Starting
from tenure.lifetimes import Lifetime, opened_here
from tenure.observers import Observers, observed_by
from tenure.remote.hosted import apart_of
from tenure.scopes import is_shared, outlives_requests
from tenure.shutdown import told_by
from tenure.state.deployments import deployed, deployment_name
from tenure.threads import in_worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Mapping

    from starlette.requests import HTTPConnection

    from tenure.fastapi.plan import Plan
    from tenure.fastapi.starting import Start
    from tenure.graph import Node
    from tenure.lifetimes import Opening, Tenant
    from tenure.resources import Resource

logger = logging.getLogger("tenure")

Phase = Literal["starting", "ready", "draining", "stopping", "stopped", "failed"]


class Application:
    """
    What is planned, checked when made and running while `run` is entered.

    Attributes:
        plan: What it is made of.
        graph: Likewise, what it needs.
        lifetime: What it has started.
        starting: How it starts.
        drain: How what it serves comes to its end.
        observers: Who is told what starts, closes, is checked and is lent; to be added to before it starts.
        title: The app's.
        deployment: With whom it shares state, once it starts; empty where nothing is shared.

    Raises:
        PlanError: The graph cannot work; nothing has started.
        DeclarationError: A number of seconds is none, or it is to start in a way that there is not.
    """

    def __init__(
        self, plan: Plan, *, grace: float = 5, drain_delay: float = 0, start: Start = "before", wait: float = 5
    ) -> None:
        plan.check()
        self.plan = plan
        self.graph = plan.graph
        self.title = plan.app.title if plan.app is not None else ""
        self.deployment = ""
        self._checked = frozenset(self.graph.nodes)
        self.lifetime = Lifetime(self.graph, _opening_of)
        self.drain = Drain(plan.app, grace, drain_delay, lambda: self.lifetime.state == "ready")
        self.starting = Starting(start, wait, self.drain.shutting_down)
        self.observers = Observers()
        self.binding = binding.binding_for(self.lifetime, self._tenant) if plan.app is not None else None
        self._scoped_security: dict[Resource[Any], bool] = {}

    @property
    def here(self) -> bool:
        """Whether it runs in this process and event loop now."""
        return self.lifetime.here

    @property
    def phase(self) -> Phase:
        """Where the app is on its way from the start to the end."""
        match self.lifetime.state:
            case "closed":
                phase: Phase = "stopped"
            case state if state == "failed" or self.starting.failure is not None:
                phase = "failed"
            case state if state == "closing" or self.drain.shutting_down.is_set():
                phase = "stopping"
            case "ready":
                phase = "draining" if self.drain.is_draining else "ready"
            case _:
                phase = "starting"
        return phase

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """
        Start everything, before the block or while it goes on, and close it at the end.

        An error of the block comes first; what then fails to close as well is logged and noted on it.
        """
        with self.drain.noticing():
            with told_by(self.drain.shutting_down), belonging.started_by(self), observed_by(self.observers):
                await self._begin()
            async with self._started_until_closed():
                yield

    @asynccontextmanager
    async def _started_until_closed(self) -> AsyncGenerator[None]:
        apps = [self.plan.app, *self.plan.mounted] if self.plan.app is not None else []
        belonging.register(apps, self)
        try:
            with in_force(apps, self.plan.discovery.stand_ins), binding.hooked(self.binding), self.drain.told():
                yield
        except BaseException as error:
            try:
                await self._close()
            except ExceptionGroup as close_errors:
                error.add_note(str(close_errors))
            raise
        else:
            await self._close()
        finally:
            belonging.unregister(apps, self)
            self.plan.app, self.plan.mounted, self.binding = None, [], None  # who is kept by an app must not keep it

    async def _begin(self) -> None:
        try:
            await self.starting.begin(self._start())
        except StartFailed:
            self.drain.tell_of_status()
            raise

    async def _close(self) -> None:
        await uninterrupted(self.starting.end())
        await self.lifetime.close()

    async def _start(self) -> None:
        if not any(node.resource is not None and is_shared(node.resource.scope) for node in self.graph.nodes):
            await self.lifetime.start()
            return
        name = await in_worker(partial(deployment_name, self.plan.deployment, title=self.title))
        self.deployment = name
        logger.info("deployment %s", name, extra={"tenure_event": "deployment", "tenure_deployment": name})
        with deployed(name, self.plan.state):
            await self.lifetime.start()

    async def lifespan_arguments(self) -> dict[str, Any]:
        """
        Give what the user's own lifespan takes beside the app, once that is ready.

        Raises:
            StartFailed: The app did not start, in the background.
        """
        if self.plan.lifespan is None:
            return {}
        await self.starting.until_ready(self.lifetime.tenants[need.node] for need in self.plan.lifespan.needs)
        return {need.parameter: self.lifetime.value(need.node) for need in self.plan.lifespan.needs}

    def solve(self, resource: Resource[Any], connection: HTTPConnection, inputs: Mapping[str, Any]) -> Awaitable[Any]:
        """Give a resource's value for a request; called by FastAPI by way of the resource."""
        self.lifetime.check(resource.name)
        if outlives_requests(resource.scope):
            return self._started(resource, connection)
        caller = caller_of(sys._getframe(2))  # noqa: SLF001 (FastAPI's solver, which called the resource, which called this)
        key = (resource, caller.security_scopes if self._keyed_by_security(resource) else ())
        return instance(resource, connection, inputs, key=key, use_cache=caller.use_cache)

    def _keyed_by_security(self, resource: Resource[Any]) -> bool:
        keyed = self._scoped_security.get(resource)
        if keyed is None:
            keyed = self._scoped_security[resource] = uses_security_scopes(resource, self.plan.overrides)
        return keyed

    async def _started(self, resource: Resource[Any], connection: HTTPConnection | None = None) -> Any:  # noqa: ANN401
        tenant = self._tenant(resource)
        if tenant is None:
            raise self._not_planned(resource)
        if tenant.state != "ready" and connection is not None and resource.is_waited_for:
            await self.starting.waited_for(tenant, connection)
        return self.lifetime.value(tenant.node)

    def _tenant(self, resource: Resource[Any]) -> Tenant | None:
        node = self.plan.discovery.find(resource)
        return self.lifetime.tenants.get(node) if node is not None else None

    def _not_planned(self, resource: Resource[Any]) -> NotStarted:
        if resource in self.plan.discovery.stand_ins:
            msg = f"`{resource.name}` was overridden when the app started, so it was never started itself"
            return NotStarted(msg, hint="keep the override until the app has stopped, or start the app without it")
        msg = f"`{resource.name}` was not in the plan when the app started"
        return NotStarted(msg, hint=f"name it there: `lifespan(also=[{resource.name}])`")

    async def get(self, resource: Resource[Any]) -> Any:  # noqa: ANN401 (any value)
        """Give the started value of a resource, or of what overrides it."""
        self.lifetime.check(resource.name)
        if not outlives_requests(resource.scope):
            msg = f"`{resource.name}` is {resource.scope}-scoped, and there is no request here to end it"
            raise NotStarted(msg, hint=f"open it for a block: `async with scope.open({resource.name}) as value:`")
        return await self._started(self.plan.discovery.started_for(resource))

    @asynccontextmanager
    async def open(self, resource: Resource[Any]) -> AsyncGenerator[Any]:
        """Open a resource, and whatever shorter-lived it needs, for one block outside of a request."""
        self.lifetime.check(resource.name)
        with self.plan.discovery.tentative():
            node = self.plan.discovery.node(resource)
            if node not in self._checked:  # no route takes it, so it was not there to be checked at the start
                self.graph.check(self.plan.state)
        async with AsyncExitStack() as stack:
            yield await self._opened(node, stack, {})

    async def _opened(self, node: Node, stack: AsyncExitStack, values: dict[Node, Any]) -> Any:  # noqa: ANN401
        if node in values:
            return values[node]
        if node.resource is not None and node.starts_with_app:
            return await self._started(node.resource)
        if node.request_inputs:
            taken = node.request_inputs[0]
            msg = f"`{node.name}` takes `{taken.parameter}` from {taken.source}, and there is no request here"
            raise RequestData(msg, path=[f"declared at {node.location}"], hint="open what it is made of instead")
        arguments = {need.parameter: await self._opened(need.node, stack, values) for need in node.needs}
        values[node] = await stack.enter_async_context(opener(node.factory, node.kind)(**arguments))
        return values[node]


def _opening_of(node: Node) -> Opening:
    resource = done_once(node)
    if resource is None:
        return opened_here(node)
    apart = apart_of(resource)
    if apart is not None and apart.is_in_cluster:
        from tenure.remote.ray import joining as cluster_joining  # noqa: PLC0415 (what few apps need)

        return cluster_joining.context(apart)
    if apart is not None:
        from tenure.remote import joining  # noqa: PLC0415 (what few apps need)

        return joining.context(apart)
    from tenure.state import once  # noqa: PLC0415 (what few apps need)

    return once.context(resource)
