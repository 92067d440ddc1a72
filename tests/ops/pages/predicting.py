"""An app with a model that both of its workers call in one process, and another that each of them loads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI

from tenure import lifespan
from tenure.models import Model, ModelFile, model
from tenure.ops import metrics_router, ops_router

MODELS = Path(os.environ["MODELS"])
PATIENCE = 60

Function = Callable[[list[int]], list[int]]


def load(content: bytes) -> Function:
    """
    Load a factor, by which numbers are multiplied.

    An item below 0 fails; 0 gives the process that computes it; 999 waits until there is a file ``go``.
    """
    factor = int(content)

    def multiply(numbers: list[int]) -> list[int]:
        if min(numbers) < 0:
            msg = "below 0"
            raise ValueError(msg)
        deadline = time.monotonic() + PATIENCE
        while 999 in numbers and not (MODELS / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return [number * factor or os.getpid() for number in numbers]

    return multiply


def declared() -> ModelFile:
    """Give the file that the test has written."""
    return ModelFile(MODELS / "two.txt", sha256=(MODELS / "two.sha256").read_text(), format="text")


embedder = model(
    load=load, file=declared, warmup=[1], scope="host", max_batch=8, max_queue=20, timeout=60, name="embedder"
)
scorer = model(load=load, file=declared, warmup=[1], max_batch=4, name="scorer")
Embedder = Annotated[Model[int, int], Depends(embedder)]
Scorer = Annotated[Model[int, int], Depends(scorer)]

app = FastAPI(title="predicting", lifespan=lifespan)
app.include_router(ops_router())
app.include_router(metrics_router())


@app.get("/process")
async def process() -> int:
    """Tell which worker this is."""
    return os.getpid()


@app.get("/embed/{number}", dependencies=[Depends(embedder.room)])
async def embed(number: int, embedder: Embedder) -> int:
    """Compute in the process of all workers."""
    return await embedder(number)


@app.get("/score/{number}")
async def score(number: int, scorer: Scorer) -> int:
    """Compute in this worker."""
    return await scorer(number)


@app.post("/swap")
async def swap(name: str, sha256: str, embedder: Embedder) -> str:
    """Let another file be called."""
    return await embedder.swap(ModelFile(MODELS / name, sha256=sha256, format="text"))
