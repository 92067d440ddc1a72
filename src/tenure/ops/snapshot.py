"""What an app is made of and how it is, as data: what the page, the command and the metrics show."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tenure.calls import WORKING_FOLDER
from tenure.graph import ids
from tenure.models.handle import Model
from tenure.pools.base import BasePool
from tenure.resources import Resource
from tenure.state.counter import Counter
from tenure.state.handles import Handle

if TYPE_CHECKING:
    from tenure.fastapi.application import Application
    from tenure.fastapi.plan import Plan
    from tenure.graph import Graph, Node
    from tenure.lifetimes import Tenant

LIBRARY = Path(__file__).parents[1]
VERSION = 1
"""Of the form of what is told; it rises when something is taken away or means another thing."""

NodeState = Literal["declared", "starting", "ready", "degraded", "failed", "closing", "closed"]
Health = Literal["pending", "pass", "warn", "fail"]
_WORSE: tuple[Health, ...] = ("pass", "pending", "warn", "fail")
Kind = Literal["resource", "state", "dependency", "lifespan"]


class Document(BaseModel):
    """The base of what is told as JSON: immutable, its names in camelCase."""

    model_config = ConfigDict(
        frozen=True, from_attributes=True, alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True
    )


class CheckSnapshot(Document):
    """
    The last result of one health check.

    Attributes:
        name: What it is called.
        status: `pending` before its first result.
        critical: Whether the app is not ready while it fails.
        tags: The groups that it is in.
        time: When it ended, in ISO 8601.
        seconds: How long it took.
        output: Why it did not pass; told only where details may be.
        stale: Whether that is older than three of its periods.
    """

    name: str
    status: Health
    critical: bool
    tags: tuple[str, ...] = ()
    time: datetime | None = None
    seconds: float | None = None
    output: str = ""
    stale: bool = False


class PoolSnapshot(Document):
    """A pool at one moment, as `PoolStats` has it."""

    size: int
    open: int
    in_use: int
    waiting: int
    refused: int
    killed: int
    leaked: int


class ModelSnapshot(Document):
    """A model at one moment, as `ModelStats` has it; one of the machine as each worker knows it."""

    version: str
    waiting: int
    max_queue: int
    running: int
    max_batch: int
    batches: int
    items: int
    largest: int
    batch_seconds: float
    busy_seconds: float
    wait_seconds: float
    served: int
    failed: int
    refused: int
    dropped: int
    late: int
    swaps: int
    load_seconds: float
    age: float
    is_away: bool


class NodeSnapshot(Document):
    """
    One dependency.

    Attributes:
        id: The same in all workers that run the same program.
        name: What logs and errors call it.
        kind: A resource; shared state; a plain dependency, solved for each request; or the app's own lifespan.
        scope: How long it lives; nothing for a plain dependency that keeps nothing.
        type: What makes the value: its module and qualified name.
        doc: The first line of its docstring.
        file: Where it is declared, relative to the working folder if below that; a module where that is unknown.
        line: The line there; 0 where that is unknown.
        own: Whether it is declared in the program, and not in tenure.
        overridden: Whether something else stands in its place.
        unused: Whether no route and nothing else that is used takes it.
        used_by_routes: The routes that use it, directly or by way of others.
        used_by: What else takes it itself: `also=[…]`, or the app's own lifespan.
        state: Where it is on its way; `declared` for what is made for each request.
        health: The worst of its checks; nothing if it has none.
        checks: Each of them.
        waiting_for: The ids of what it waits for before it can start.
        started_at: When its start began.
        start_offset: The same, in seconds after the start of the app.
        start_seconds: How long its start took.
        close_seconds: How long its close took.
        error: What ended it; told only where details may be.
        pool: How it is doing, if it is a pool of tenure's.
        model: How it is doing, if it is a model.
        count: Its value, if it is a counter.
    """

    id: str
    name: str
    kind: Kind
    scope: str | None
    type: str
    doc: str = ""
    file: str
    line: int
    own: bool
    overridden: bool = False
    unused: bool = False
    used_by_routes: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    state: NodeState = "declared"
    health: Health | None = None
    checks: tuple[CheckSnapshot, ...] = ()
    waiting_for: tuple[str, ...] = ()
    started_at: datetime | None = None
    start_offset: float | None = None
    start_seconds: float | None = None
    close_seconds: float | None = None
    error: str = ""
    pool: PoolSnapshot | None = None
    model: ModelSnapshot | None = None
    count: int | None = None


class EdgeSnapshot(Document):
    """That one dependency, `source`, takes another, `target`, by a parameter; in JSON they are `from` and `to`."""

    source: str = Field(validation_alias="from", serialization_alias="from")
    target: str = Field(validation_alias="to", serialization_alias="to")
    parameter: str


class Snapshot(Document):
    """
    One worker of an app at one moment.

    Attributes:
        schema_version: Of this form.
        app: The app's title.
        deployment: With whom it shares state; empty where nothing is shared.
        host: The machine's name.
        worker: Its number among the workers of this deployment on this machine, from 0; nothing where it has none.
        pid: Its process.
        state: Where the app is between its start and its end; `declared` before.
        time: When this was told.
        started_at: When its start began.
        ready_seconds: How long that took, once all was ready.
        nodes: What it is made of, each after what it needs as far as the app starts it.
        edges: What needs what.
    """

    schema_version: int = VERSION
    app: str
    deployment: str = ""
    host: str
    worker: int | None = None
    pid: int
    state: Literal["declared", "starting", "ready", "draining", "stopping", "stopped", "failed"]
    time: datetime
    started_at: datetime | None = None
    ready_seconds: float | None = None
    nodes: tuple[NodeSnapshot, ...]
    edges: tuple[EdgeSnapshot, ...]

    def without_errors(self) -> Snapshot:
        """Give the same without what errors and checks have said, which may name addresses or users."""
        return self.model_copy(update={"nodes": tuple(_without_errors(node) for node in self.nodes)})


def _without_errors(node: NodeSnapshot) -> NodeSnapshot:
    checks = tuple(check.model_copy(update={"output": ""}) for check in node.checks)
    return node.model_copy(update={"error": "", "checks": checks})


class Drawn:
    """
    What of a graph does not change: read once for each plan, as finding who uses what takes a while.

    Attributes:
        ids: The id of each node.
        nodes: What is told of each.
        edges: What needs what.
    """

    def __init__(self, graph: Graph) -> None:
        order = dict.fromkeys([*graph.started(), *graph.nodes])
        self.ids = ids(order)
        self.nodes = {node: _declared(graph, node, self.ids[node]) for node in order}
        self.edges = tuple(
            EdgeSnapshot(source=self.ids[node], target=self.ids[need.node], parameter=need.parameter)
            for node in order
            for need in node.needs
        )


def planned_snapshot(plan: Plan, drawn: Drawn | None = None) -> Snapshot:
    """Tell what an app would start, none of which has begun."""
    drawn = drawn or Drawn(plan.graph)
    return Snapshot(
        app=plan.app.title if plan.app is not None else "",
        deployment=plan.deployment or "",
        host=socket.gethostname(),
        pid=os.getpid(),
        state="declared",
        time=datetime.now(UTC),
        nodes=tuple(drawn.nodes.values()),
        edges=drawn.edges,
    )


def snapshot(
    application: Application,
    drawn: Drawn,
    *,
    worker: int | None = None,
    checks: dict[Node, list[CheckSnapshot]] | None = None,
) -> Snapshot:
    """Tell how a running app is; nothing is started, asked or closed for it. In the app's event loop."""
    lifetime = application.lifetime
    began = datetime.fromtimestamp(lifetime.began, UTC)
    nodes = []
    for node, declared in drawn.nodes.items():
        tenant = lifetime.tenants.get(node)
        known = (checks or {}).get(node, [])
        nodes.append(declared if tenant is None else _living(declared, tenant, began, drawn.ids, known))
    return Snapshot(
        app=application.title,
        deployment=application.deployment,
        host=socket.gethostname(),
        worker=worker,
        pid=os.getpid(),
        state=application.phase,
        time=datetime.now(UTC),
        started_at=began,
        ready_seconds=lifetime.ready_seconds,
        nodes=tuple(nodes),
        edges=drawn.edges,
    )


def _declared(graph: Graph, node: Node, id_: str) -> NodeSnapshot:
    file, _, line = node.location.rpartition(":")
    made_by = node.factory
    if (
        node.resource is not None and type(node.resource) is not Resource
    ):  # a pool or a handle, whose factory is its own
        made_by = type(node.resource)
    module = str(getattr(made_by, "__module__", ""))
    routes = graph.users(node)
    doc = str(getattr(made_by, "__doc__", "") or "").strip().splitlines()
    return NodeSnapshot(
        id=id_,
        name=node.name,
        kind=_kind(graph, node),
        scope=node.lifetime(),
        type=f"{module}.{getattr(made_by, '__qualname__', type(made_by).__name__)}",
        doc=doc[0] if doc else "",
        file=file or node.location,
        line=int(line) if line.isdigit() else 0,
        own=not Path(WORKING_FOLDER, file).is_relative_to(LIBRARY),
        overridden=node.stands_for is not None,
        unused=not routes and node is not graph.lifespan,
        used_by_routes=tuple(route for route in routes if " /" in route),
        used_by=tuple(user for user in routes if " /" not in user),
    )


def _kind(graph: Graph, node: Node) -> Kind:
    if node is graph.lifespan:
        return "lifespan"
    if node.resource is None:
        return "dependency"
    return "state" if isinstance(node.resource, Handle) else "resource"


def _living(
    declared: NodeSnapshot, tenant: Tenant, began: datetime, ids: dict[Node, str], checks: list[CheckSnapshot]
) -> NodeSnapshot:
    value: Any = tenant.value
    health = _worst(checks)
    started = tenant.began is not None
    return declared.model_copy(
        update={
            "state": "degraded" if tenant.state == "ready" and health in {"warn", "fail"} else tenant.state,
            "health": health,
            "checks": tuple(checks),
            "waiting_for": ()
            if started
            else tuple(ids[needed.node] for needed in tenant.needs.values() if not needed.ready.done()),
            "started_at": began + timedelta(seconds=tenant.began) if tenant.began is not None else None,
            "start_offset": tenant.began,
            "start_seconds": tenant.seconds if tenant.ready.done() else None,
            "close_seconds": tenant.close_seconds,
            "error": f"{type(tenant.error).__name__}: {tenant.error}" if tenant.error is not None else "",
            "pool": PoolSnapshot.model_validate(value.stats) if isinstance(value, BasePool) else None,
            "model": ModelSnapshot.model_validate(value.stats) if isinstance(value, Model) else None,
            "count": value.value if isinstance(value, Counter) else None,
        }
    )


def _worst(checks: list[CheckSnapshot]) -> Health | None:
    statuses: list[Health] = [check.status for check in checks]
    return max(statuses, key=_WORSE.index, default=None)
