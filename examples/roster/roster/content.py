"""What a file holds, told by its bytes and not by its name: Google's magika, once for all workers of a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from tenure.models import Model, ModelFile, model

WARMUP = [b"", b"\x89PNG\r\n\x1a\n" + bytes(8192)]


@dataclass(frozen=True)
class Content:
    """
    What a file holds, as the model sees it: a guess, if a good one.

    Attributes:
        label: Which of some two hundred kinds, such as ``png``.
        description: That in words.
    """

    label: str
    description: str


def load(weights: bytes) -> Callable[[list[bytes]], list[Content]]:
    """Load the model, in its own process: no worker imports what computes."""
    from roster.looking import Looking  # noqa: PLC0415 (as said)

    looking = Looking(weights)
    return lambda files: [looking(file) for file in files]


# In a process of its own, though it is small: what strangers send is read by native code, and whatever that does to a
# process, workers and their requests live on. Each by itself: together they take longer, not less.
content = model(
    load=load,
    file=ModelFile.of_package(
        "magika",
        "models/standard_v3_3/model.onnx",
        sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        format="onnx",
    ),
    warmup=WARMUP,
    max_batch=1,
    max_queue=16,
    timeout=10,
    idempotent=True,
    scope="host",
    name="content",
)

Contents = Annotated[Model[bytes, Content], Depends(content)]
"""Tells what a file holds: ``await contents(file)``."""
