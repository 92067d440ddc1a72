"""`SharedArray`: numbers that all workers of a machine read where they lie, once in memory however many they are."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import core_schema

from tenure.errors import DeclarationError, MissingExtra, StateFull, StateUnavailable

try:
    import numpy as np
except ModuleNotFoundError:
    _msg = "a shared array needs the package numpy, which is not installed"
    raise MissingExtra(_msg, hint="pip install numpy") from None

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import DTypeLike, NDArray
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

PLAIN = frozenset("biufcmMSU?")
"""The kinds of numpy's types that are plain memory."""

_place: ContextVar[Path | None] = ContextVar("tenure_array_place", default=None)


@contextmanager
def kept_at(place: Path) -> Generator[None]:
    """Keep the arrays that are made in this block, and in what it starts, in files whose paths begin so."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


class SharedArray:
    """
    A read-only numpy array that lies in memory once for all workers of a machine, and is read without a call.

    Made by the factory of a host-scoped function or generator, which the first worker runs; the others map it::

        @scoped("host")
        def vectors() -> SharedArray:
            return SharedArray(np.load("vectors.npy"))

    It lies in shared memory (``/dev/shm``, or below ``$XDG_RUNTIME_DIR``), in a file that only this user can read, and
    is gone when no worker is left. At ``"app"`` scope, and outside of any, it is an array of this process.

    Args:
        array: The numbers, which are copied. While it is made there are two copies; `filled` needs one.

    Raises:
        DeclarationError: It holds Python objects or records, which are no plain memory.
        StateFull: There is no room for it.
        StateUnavailable: It cannot be written.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._path: Path | None
        self.array: NDArray[Any]
        self._path, self.array = _made(array.shape, array.dtype, lambda memory: np.copyto(memory, array))

    @classmethod
    def filled(cls, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[NDArray[Any]], object]) -> SharedArray:
        """
        Make one in its place: `fill` gets it while it may be written, and is full of zeros.

        Raises:
            DeclarationError: As above; likewise the other two.
        """
        return cls._of(*_made(shape, np.dtype(dtype), fill))

    @classmethod
    def _of(cls, path: Path | None, array: NDArray[Any]) -> SharedArray:
        shared = cls.__new__(cls)
        shared._path, shared.array = path, array  # noqa: SLF001 (its own kind)
        return shared

    @classmethod
    def _mapped(cls, told: dict[str, Any]) -> SharedArray:
        """Map what another process has made."""
        path = Path(told["path"])
        return cls._of(path, _map(path, np.dtype(told["dtype"]), told["shape"]))

    def _told(self) -> dict[str, Any]:
        if self._path is None:
            msg = "it was made before it was known that workers share it"
            raise ValueError(msg)
        return {"path": str(self._path), "dtype": self.array.dtype.str, "shape": list(self.array.shape)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Say how it goes to another process: by its place, and not by what it holds."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls._mapped,
            serialization=core_schema.plain_serializer_function_ser_schema(cls._told),
        )

    def __repr__(self) -> str:
        return f"<SharedArray of {self.array.dtype}, {self.array.shape}>"


def _made(
    shape: tuple[int, ...], kind: np.dtype[Any], fill: Callable[[NDArray[Any]], object]
) -> tuple[Path | None, NDArray[Any]]:
    if kind.kind not in PLAIN:
        msg = f"an array of {kind} cannot be shared: it holds more than its own memory"
        raise DeclarationError(msg, hint="share arrays of numbers, one for each field")
    place = _place.get()
    if place is None:
        array = np.zeros(shape, kind)
        fill(array)
        array.flags.writeable = False
        return None, array
    path = place.with_name(f"{place.name}.array-{uuid4().hex}")
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    try:
        with _file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
            if size:
                _grow(file, size)
                fill(np.frombuffer(mmap.mmap(file, size), kind).reshape(shape))
        return path, _map(path, kind, shape)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refused(path, size, error) from error
        raise


def _grow(file: int, size: int) -> None:
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size)  # or a lack of room would end the process where it writes
    else:
        os.ftruncate(file, size)


def _map(path: Path, kind: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    with _file(path, os.O_RDONLY) as file:
        size = os.fstat(file).st_size
        memory: Any = mmap.mmap(file, size, prot=mmap.PROT_READ) if size else b""
    return np.frombuffer(memory, kind).reshape(tuple(shape))


@contextmanager
def _file(path: Path, flags: int) -> Generator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refused(path: Path, size: int, error: OSError) -> StateFull | StateUnavailable:
    if error.errno in {errno.ENOSPC, errno.ENOMEM, errno.EFBIG}:
        msg = f"there is no room for a shared array of {size} bytes"
        hint = "give the machine or container more shared memory (`docker run --shm-size`), or set XDG_RUNTIME_DIR"
        return StateFull(msg, path=[str(path.parent)], hint=hint)
    return StateUnavailable(f"a shared array cannot be written: {error.strerror}", path=[str(path.parent)])
