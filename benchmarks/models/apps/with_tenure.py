"""With tenure: the model at the scope that the environment says."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, FastAPI

from benchmarks.models.minilm import BATCHES, CALLERS, FREEZE, MAX_BATCH, SCOPE, Hit, places, search, texts
from tenure import lifespan, scoped
from tenure.models import Model, ModelFile, model

if TYPE_CHECKING:
    from tenure.models.model import Where

FORMATS = {"weights": "onnx", "vocabulary": "text"}

searching = model(
    load=search,
    file={name: ModelFile(path, sha256=sha256, format=FORMATS[name]) for name, (path, sha256) in places().items()},
    warmup=texts(2),
    scope=cast("Where", os.environ.get(SCOPE, "app")),
    workers=BATCHES,
    max_batch=MAX_BATCH,
    max_queue=4 * CALLERS,
    name="search",
)
Nearest = Annotated[Model[str, list[Hit]], Depends(searching)]


@scoped("app")
def frozen(searching: Nearest) -> None:
    """Take what is loaded by now out of Python's garbage collections, which stop everything as long as they take."""
    del searching
    gc.collect()
    gc.freeze()


app = FastAPI(lifespan=lifespan(deployment="benchmark", also=[frozen] if FREEZE in os.environ else []))


@app.get("/search")
async def of(q: str, searching: Nearest) -> list[Hit]:
    """Give the nearest."""
    return await searching(q)


@app.get("/ping")
async def ping() -> str:
    """Answer at once."""
    return "pong"
