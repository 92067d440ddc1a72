"""Values on their way to another process: msgpack, with arrays beside it as they lie in memory. No pickle is made."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from tenure.errors import MissingExtra, NotSerialisable

if TYPE_CHECKING:
    from collections.abc import Sequence

try:
    import msgpack
except ModuleNotFoundError:
    _msg = "an object that lives in a process of its own needs the package msgpack, which is not installed"
    raise MissingExtra(_msg, hint='pip install "tenure[remote]"') from None

ARRAY, TUPLE = 1, 2
"""The kinds of our extensions: an array, by its type, shape and the number of its buffer; and a tuple."""
NUMBERS = frozenset("biufcmMSU?")
"""The kinds of numpy's types that are plain memory, and so can be read by whoever knows the type."""


def written(value: object) -> tuple[bytes, list[memoryview]]:
    """
    Write a value, and give the buffers that go beside it: the arrays' own memory, not copied.

    Raises:
        NotSerialisable: It is, or holds, what is no data.
    """
    buffers: list[memoryview] = []
    try:
        return _packed(value, buffers), buffers
    except Exception as error:  # what a value's own code raises too, such as a property's
        msg = f"a value of the type {type(value).__name__} cannot be sent to another process: {error}"
        hint = "send what JSON can hold, bytes, dataclasses, Pydantic's models or numpy's arrays of numbers"
        raise NotSerialisable(msg, hint=hint) from error


def read(content: bytes | memoryview, buffers: Sequence[memoryview]) -> Any:  # noqa: ANN401 (any value)
    """
    Read a value; its arrays are views of the buffers, which are theirs from then on.

    Raises:
        ValueError: `written` has not written it.
    """
    extended = partial(_unextended, buffers)
    return msgpack.unpackb(content, ext_hook=extended, strict_map_key=False)


def _packed(value: object, buffers: list[memoryview]) -> bytes:
    packed: bytes = msgpack.packb(value, default=partial(_extended, buffers), strict_types=True)
    return packed


def _extended(buffers: list[memoryview], value: Any) -> Any:  # noqa: ANN401 (any value)
    """Give what stands for a value that msgpack does not know."""
    if isinstance(value, tuple):
        return msgpack.ExtType(TUPLE, _packed(list(value), buffers))
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return msgpack.ExtType(ARRAY, _array(value, buffers))
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return list(value)
    return _fields(value)


def _fields(value: Any) -> Any:  # noqa: ANN401 (any value)
    if isinstance(value, RootModel):
        return value.root
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):  # of a class of its own
        return dict(value)
    if isinstance(value, Secret | SecretBytes | SecretStr):  # JSON would have stars
        return value.get_secret_value()
    return to_jsonable_python(value)  # dates, UUIDs, paths, enumerations, subclasses of str and int


def _array(value: Any, buffers: list[memoryview]) -> bytes:  # noqa: ANN401 (numpy need not be installed)
    if value.dtype.kind not in NUMBERS:
        msg = f"an array of {value.dtype} holds more than its own memory"
        raise TypeError(msg)
    flat = value.reshape(-1) if value.flags.c_contiguous else value.flatten()
    buffers.append(memoryview(flat.view("u1")) if flat.size else memoryview(b""))
    packed: bytes = msgpack.packb([value.dtype.str, list(value.shape), len(buffers) - 1])
    return packed


def _unextended(buffers: Sequence[memoryview], code: int, content: bytes) -> Any:  # noqa: ANN401 (any value)
    if code == TUPLE:
        return tuple(read(content, buffers))
    if code == ARRAY:
        import numpy as np  # noqa: PLC0415 (who sends arrays has it)

        kind, shape, number = msgpack.unpackb(content)
        dtype = np.dtype(kind)
        if dtype.kind not in NUMBERS:
            msg = f"an array of {kind}"
            raise ValueError(msg)
        return np.frombuffer(buffers[number], dtype).reshape(shape)
    msg = f"an extension {code}"
    raise ValueError(msg)
