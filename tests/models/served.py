"""Models that live in a process of their own, and the app whose workers call them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import Body, Depends, FastAPI
from numpy.typing import NDArray

from tenure import lifespan
from tenure.models import Model, ModelFile, model


def here(name: str) -> Path:
    """Give a file of the test's folder."""
    return Path(os.environ["XDG_RUNTIME_DIR"], name)


def lines(name: str) -> list[str]:
    """Read what was noted in a file of the test's folder."""
    path = here(name)
    return path.read_text().splitlines() if path.exists() else []


def note(name: str, word: object) -> None:
    """Note a word in a file of the test's folder; all of it at once, whoever else does."""
    with here(name).open("a") as notes:
        notes.write(f"{word}\n")


@dataclass(frozen=True)
class Answer:
    """What the model gives for a number."""

    number: int
    times: int
    process: int


class Multiplier:
    """
    A model that is a factor in a text file: gives each number times that.

    A number below 0 is an error. For 999 it waits until there is a file ``go``.
    """

    def __init__(self, content: bytes) -> None:
        note("loads", os.getpid())
        if here("refuses").exists():
            msg = "no memory left"
            raise OSError(msg)
        while content.decode() in lines("slow"):
            time.sleep(0.005)
        self._factor = int(content.decode())

    def __call__(self, numbers: list[int]) -> Sequence[Answer]:
        """Multiply."""
        if min(numbers) < 0:
            msg = f"{min(numbers)} is below 0"
            raise ValueError(msg)
        if 999 in numbers:
            note("held", len(numbers))
            deadline = time.monotonic() + 30
            while not here("go").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
        return [Answer(number, number * self._factor, os.getpid()) for number in numbers]


def factor() -> ModelFile:
    """Give the file that the test has named."""
    path, sha256 = lines("declared")
    return ModelFile(path, sha256=sha256, format="text")


multiplier = model(
    load=Multiplier,
    file=factor,
    warmup=[1, 2, 3],
    invariant=False,
    scope="host",
    max_batch=8,
    max_queue=20,
    name="multiplier",
)
patient = model(load=Multiplier, file=factor, scope="host", max_batch=8, idempotent=True, name="patient")


agreed = model(load=Multiplier, file=factor, warmup=[1, 2], scope="cluster", name="agreed")


def load_vectors(contents: Mapping[str, bytes]) -> Callable[[list[NDArray[np.float64]]], Sequence[NDArray[np.float64]]]:
    """Load a model of two files, which scales and shifts arrays."""
    scale, shift = (float(contents[name].decode()) for name in ("scale", "shift"))
    return lambda arrays: [array * scale + shift for array in arrays]


def two_factors() -> dict[str, ModelFile]:
    """Give the same file twice."""
    return {"scale": factor(), "shift": factor()}


vectors = model(load=load_vectors, file=two_factors, scope="host", name="vectors")

app = FastAPI(lifespan=lifespan(deployment="served"))

Multiplied = Annotated[Model[int, Answer], Depends(multiplier)]


@app.get("/times/{number}")
async def times(number: int, multiplier: Multiplied) -> tuple[int, int, int]:
    """Give a number times the factor, the model's process and the worker's."""
    answer = await multiplier(number)
    return answer.times, answer.process, os.getpid()


@app.get("/version")
async def version(multiplier: Multiplied) -> tuple[str, int]:
    """Give the version that this worker knows, and its process."""
    return multiplier.version, os.getpid()


@app.post("/guarded", dependencies=[Depends(multiplier.room)])
async def guarded(number: Annotated[int, Body()], multiplier: Multiplied) -> int:
    """Give a number times the factor, if there is room."""
    return (await multiplier(number)).times
