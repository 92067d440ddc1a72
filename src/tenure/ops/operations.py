"""What answers for a running app: a resource of the app itself, which its probes and pages take."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from tenure.belonging import starting_app
from tenure.errors import NotRunning
from tenure.ops.health import Checks
from tenure.ops.lag import Lag
from tenure.ops.snapshot import Drawn, Snapshot, snapshot
from tenure.ops.workers import Workers
from tenure.resources import Resource
from tenure.state.deployments import deployment_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tenure.fastapi.application import Application
    from tenure.ops.workers import Answer

T = TypeVar("T")


class Operations:
    """
    A running app, as it tells of itself.

    Attributes:
        application: The app.
        checks: Its health checks, as they are run.
        lag: How late its event loop is.
        workers: This worker, among all of its deployment on this machine.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.checks = Checks(application)
        self.lag = Lag()
        self.workers = Workers({"snapshot": self._told})

    @cached_property
    def drawn(self) -> Drawn:
        """What of the graph does not change."""
        return Drawn(self.application.graph)

    def snapshot(self) -> Snapshot:
        """Tell how this worker is."""
        return snapshot(self.application, self.drawn, worker=self.workers.number, checks=self.checks.told())

    def _told(self) -> bytes:
        return self.snapshot().model_dump_json().encode()

    async def snapshots(self) -> list[Snapshot | int]:
        """Tell how each worker of this machine is; of one that does not answer, or not what we know, its number."""
        return [_read(answer) for answer in await self.workers.ask("snapshot")]


def _read(answer: Answer) -> Snapshot | int:
    try:
        return Snapshot.model_validate_json(answer.content or b"")
    except ValidationError:  # another version of the program may say it otherwise
        return answer.worker


class Reading(Resource[T | None]):
    """A resource that is nothing before its app has started and after it has closed: probes answer then too."""

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits for it: a probe is answered at once."""
        return False

    async def __call__(self, *args: object, **inputs: Any) -> T | None:  # noqa: ANN401 (as a resource has it)
        """Give the value, if the app runs."""
        try:
            return cast("T", await super().__call__(*args, **inputs))
        except NotRunning:
            return None


async def _operations() -> AsyncIterator[Operations]:
    application = cast("Application", starting_app())
    found = Operations(application)
    deployment = application.deployment or deployment_name(application.plan.deployment, title=application.title)
    async with found.lag.watched(), found.workers.joined(deployment), found.checks.running():
        yield found


operations: Reading[Operations] = Reading(_operations, scope="app", name="operations", close_timeout=2)
