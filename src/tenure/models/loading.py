"""How a model is made: its files read and hashed, loaded, warmed up and checked, before anyone may call it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from tenure.errors import DeclarationError, TenureError
from tenure.models.checking import warm_up
from tenure.models.errors import ModelLoadFailed
from tenure.models.files import ModelFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenure.models.batching import Batching
    from tenure.models.computing import Function
    from tenure.models.native import NativeThreads

T = TypeVar("T")
R = TypeVar("R")

Files: TypeAlias = ModelFile | Mapping[str, ModelFile] | None
"""What a model is loaded from: a file, several by name, or nothing that it names."""

DIGITS = 12
"""How much of a checksum a version has."""


@dataclass(frozen=True, eq=False)
class Recipe(Generic[T, R]):
    """
    How a model is made, and how it is called.

    Attributes:
        name: What logs and errors call it.
        load: Gives its function: of the content of its file, of those of its files by name, or of nothing.
        warmup: Items that it must be able to compute.
        tolerance: How far the results of an item alone and in a batch may be apart; nothing compares none.
        native_threads: How many native threads one call may use; nothing leaves that to the libraries.
        batching: How items are gathered.
        idempotent: Whether an item may be computed twice: it is given once more where the model's process dies.
        close_timeout: Seconds that its close may take.
    """

    name: str
    load: Callable[..., Function[T, R]]
    warmup: Sequence[T]
    tolerance: float | None
    native_threads: int | None
    batching: Batching
    idempotent: bool
    close_timeout: float

    @property
    def patience(self) -> float:
        """Seconds in which what waits is still computed once it is closed; a little less than that may take."""
        return self.close_timeout * 0.8


@dataclass(frozen=True, eq=False)
class Loaded(Generic[T, R]):
    """
    A model that may be called.

    Attributes:
        function: What computes.
        files: What it was loaded from.
        version: Its name and the beginning of its checksum.
        seconds: How long all of it took.
    """

    function: Function[T, R]
    files: Files
    version: str
    seconds: float


def loaded(recipe: Recipe[T, R], files: Files, threads: NativeThreads) -> Loaded[T, R]:
    """
    Make a model. Blocks: called in a thread.

    Raises:
        ModelRefused: A file is not what it is said to be.
        ModelLoadFailed: It could not be loaded.
        WarmupFailed: It has failed at its warm-up.
        NotInvariant: An item has another result in a batch than alone.
    """
    began = perf_counter()
    version = version_of(recipe.name, files)
    contents = _read(files)
    with threads.loading():
        function = threads.bounded(_load(recipe, contents))
        del contents
        warm_up(recipe.name, function, recipe.warmup, recipe.batching, recipe.tolerance)
    return Loaded(function, files, version, perf_counter() - began)


def _read(files: Files) -> list[bytes | dict[str, bytes]]:
    if files is None:
        return []
    if isinstance(files, ModelFile):
        return [files.read()]
    return [{name: file.read() for name, file in files.items()}]


def _load(recipe: Recipe[T, R], contents: list[bytes | dict[str, bytes]]) -> Function[T, R]:
    try:
        function = recipe.load(*contents)
    except TenureError:
        raise
    except Exception as error:
        msg = f"`{recipe.name}` could not be loaded: {type(error).__name__}: {error}"
        raise ModelLoadFailed(msg, hint="see the cause") from error
    if not callable(function):
        msg = f"`load` of `{recipe.name}` gave {type(function).__name__}, which cannot be called with a list of items"
        raise ModelLoadFailed(msg, hint="return a function: a list of items in, a result for each out")
    return function


def version_of(name: str, files: Files) -> str:
    """Give a model's name and the beginning of its checksum: of its file, or of the checksums of all of them."""
    if files is None:
        return name
    if isinstance(files, ModelFile):
        return f"{name}@{files.sha256[:DIGITS]}"
    every = "".join(f"{part}\n{files[part].sha256}\n" for part in sorted(files))
    return f"{name}@{hashlib.sha256(every.encode()).hexdigest()[:DIGITS]}"


def checked(name: str, given: Any) -> Files:  # noqa: ANN401 (what a program gives)
    """
    Give what a program has named as a model's file or files.

    Raises:
        DeclarationError: It is neither.
    """
    if given is None or isinstance(given, ModelFile):
        return given
    if isinstance(given, Mapping) and given and all(isinstance(file, ModelFile) for file in given.values()):
        return {str(part): file for part, file in given.items()}
    msg = f"`{name}` is to be loaded from {type(given).__name__}, which is no model file"
    raise DeclarationError(
        msg, hint="give a `ModelFile`, a mapping of names to such, or a dependency that gives either"
    )


def exchanged(name: str, current: Files, given: Any) -> Files:  # noqa: ANN401 (what a program gives)
    """
    Give the files of a model once some are exchanged; of several, those that are not named stay.

    Raises:
        DeclarationError: They are no files of this model.
    """
    new = checked(name, given)
    if isinstance(current, ModelFile) and isinstance(new, ModelFile):
        return new
    if isinstance(current, Mapping) and isinstance(new, Mapping) and new.keys() <= current.keys():
        return {**current, **new}
    if current is None:
        how = "none: let `load` take one, `file=ModelFile(…)`"
    else:
        how = "one `ModelFile`" if isinstance(current, ModelFile) else f"files by name: {', '.join(current)}"
    msg = f"`{name}` cannot be swapped for what is given"
    raise DeclarationError(msg, hint=f"it is loaded from {how}")
