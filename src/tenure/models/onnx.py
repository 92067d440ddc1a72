"""What an ONNX file leads to beside itself, read from its bytes: nothing of it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5

# What may hold a tensor, from the model down, by the numbers that ONNX gives to the fields.
_MODEL = {7: "graph", 20: "training", 25: "function"}
_WITHIN: dict[str, dict[int, str]] = {
    "model": _MODEL,
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_DEEPEST = 64


def leads_elsewhere(content: bytes) -> bool:
    """
    Tell whether a tensor of a model lies in another file, which no checksum of this one covers.

    Raises:
        ValueError: These bytes are no message of that kind.
    """
    return _leads_elsewhere(memoryview(content), "model", 0)


def _leads_elsewhere(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(depth)
    if kind == "tensor":
        return any(
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0) for number, value in _fields(message)
        )
    within = _WITHIN[kind]
    return any(
        isinstance(value, memoryview) and _leads_elsewhere(value, within[number], depth + 1)
        for number, value in _fields(message)
        if number in within
    )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Give the number and the value of each field; what fields hold is not copied."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, how = key >> 3, key & 7
        if how == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if how == _BYTES:
            size, at = _varint(message, at)
        elif how in {_EIGHT, _FOUR}:
            size = 8 if how == _EIGHT else 4
        else:
            raise ValueError(how)
        if at + size > end:
            raise ValueError(size)
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:  # noqa: PLR2004 (a number has at most ten bytes)
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 (the last of a number)
            return value, at
        shift += 7
    raise ValueError(at)
