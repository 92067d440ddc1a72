"""The process that measures: it prints, as JSON, what it measures next, and the rows that it has found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import uvloop

from benchmarks.state import caching, counting, topics
from benchmarks.state.plan import Plan
from tenure.host import EmbeddedValkey
from tenure.state.deployments import current_deployment
from tenure.state.stores import places


async def main(plan: Plan) -> None:
    """Measure all of it on the server that tenure runs for its host-scoped handles."""
    async with EmbeddedValkey(places.settled(current_deployment(), "valkey")) as server:
        for part in (counting, caching, topics):
            for row in await part.measure(server.url(), plan, say):
                say(asdict(row))


def say(what: object) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(Plan.read(sys.argv[1])))
