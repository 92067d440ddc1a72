"""The process of an object that lives apart from the workers: makes it with all that it needs, and serves it."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenure.errors import StartFailed, TenureError
from tenure.lifespan import running
from tenure.remote.failures import told
from tenure.remote.hosted import found
from tenure.remote.server import Server
from tenure.remote.service import FAILURE, leave
from tenure.state.deployments import STATE_VARIABLE, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("tenure.owner")


async def serve(order: dict[str, Any], home: Path, path: Path) -> None:
    """Make an object, answer for it at a socket until SIGTERM, and close it."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    apart = found(attrgetter(order["name"])(importlib.import_module(order["module"])), order)
    resource = apart.owned(home)
    async with running(also=[resource]) as scope:
        served = await scope.get(resource)
        async with Server(served).listening(path):
            logger.info(
                "%s is served by process %d",
                order["resource"],
                os.getpid(),
                extra={"tenure_event": "object-served", "tenure_resource": order["resource"]},
            )
            await ending.wait()
            apart.ends(served)


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes the event loop: uvloop's where that is installed, as uvicorn does for workers."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def main() -> None:
    """Serve the object that a file describes, at a socket: ``python -m tenure.owner FILE SOCKET``."""
    logging.basicConfig(format="%(asctime)s owner: %(message)s", level=logging.INFO)
    order: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    os.chdir(order["folder"])
    os.environ[VARIABLE] = order["deployment"]
    if order["state"] is not None:
        os.environ[STATE_VARIABLE] = order["state"]
    os.environ.update(order["environment"])
    home = Path(sys.argv[1]).parent
    try:
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(serve(order, home, Path(sys.argv[2])))
    except StartFailed as error:
        cause = error.__cause__
        leave(home / FAILURE, told(cause if isinstance(cause, TenureError) else error))
        raise


if __name__ == "__main__":
    main()
