"""With BentoML: its adaptive batches, as many threads as others have; in an environment of its own, without tenure."""

from __future__ import annotations

import bentoml

from benchmarks.models.minilm import BATCHES, MAX_BATCH, Hit, load


@bentoml.service(workers=1, threads=BATCHES, metrics={"enabled": False})
class Search:
    """The model."""

    def __init__(self) -> None:
        self.search = load()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, route="/search")
    def of(self, q: list[str]) -> list[list[Hit]]:
        """Give the nearest; each request has a list of one."""
        return self.search(q)

    @bentoml.api(route="/ping")
    async def ping(self) -> str:
        """Answer at once."""
        return "pong"
