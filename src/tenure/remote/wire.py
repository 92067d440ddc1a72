"""The wire between a worker and an object's owner: frames over a unix socket, many at once, of a bounded size."""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Any, cast

from tenure.errors import StateTooLarge
from tenure.remote.errors import RemoteError
from tenure.remote.values import read, written

VERSION = 1
_HEAD = struct.Struct("<BBHIQ")
"""Version, what it is, how many buffers follow, bytes of the message, number of the call."""
_LENGTH = struct.Struct("<Q")
MOST_BUFFERS = 1024
SMALL = 64 * 1024
"""Bytes that are received at once, while no larger frame is under way."""
LARGEST = 256 * 1024 * 1024
"""Bytes that a frame may have, with its buffers."""


class What(IntEnum):
    """What a frame is."""

    CALL = 1
    CANCEL = 2
    RESULT = 3
    ERROR = 4
    ITEM = 5
    MORE = 6
    END = 7
    READY = 8


_WHATS = {each.value: each for each in What}


class Wire(asyncio.BufferedProtocol, ABC):
    """
    One end of a connection: frames in, frames out.

    Each frame that is received has a piece of memory of its own, of which its arrays are views; the system writes the
    larger ones right there.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._outgoing: list[bytes] = []
        self._small = bytearray(SMALL)
        self._filled = 0
        self._frame: bytearray | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        """Note that the other end does not keep up."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it does again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc
        self._transport = None
        self._writable.set()
        self.lost()

    @property
    def is_writable(self) -> bool:
        """Whether the other end keeps up."""
        return self._writable.is_set()

    async def writable(self) -> None:
        """Wait while the other end does not keep up."""
        await self._writable.wait()

    @property
    def is_open(self) -> bool:
        """Whether the other end is there, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Hang up, once what was sent is gone."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to what comes next."""
        del sizehint
        return memoryview(self._small if self._frame is None else self._frame)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Act on each frame that is whole."""
        self._filled += nbytes
        try:
            if self._frame is None:
                self._split()
            elif self._filled == len(self._frame):
                frame, self._frame, self._filled = self._frame, None, 0
                self._act(frame)
        except (ValueError, TypeError, KeyError, IndexError, struct.error) as error:
            self.confused(error)
            if self._transport is not None:
                self._transport.abort()

    def _split(self) -> None:
        at, small = 0, memoryview(self._small)
        while (size := _size(small[at : self._filled])) is not None:
            if at + size > self._filled:
                self._frame = bytearray(size)
                self._frame[: self._filled - at] = small[at : self._filled]
                self._filled -= at
                return
            self._act(small[at : at + size])
            at += size
        rest = bytes(small[at : self._filled])
        self._small[: len(rest)] = rest
        self._filled = len(rest)

    def _act(self, frame: bytearray | memoryview) -> None:
        self.received(*unframed(frame))

    def send(self, what: What, number: int, value: object = None, *, copied: bool = False) -> None:
        """
        Send a frame; its arrays are read until they are gone, unless they are `copied` first.

        Raises:
            NotSerialisable: The value is no data; nothing was sent.
            StateTooLarge: It is larger than a frame may be; likewise.
            RemoteError: The connection is gone.
        """
        size, head, content, buffers = framed(what, number, value)
        if self._transport is None:
            msg = "the connection to another process is gone"
            raise RemoteError(msg)
        if size > SMALL:
            self._flush()
            self._transport.write(head + content)
            for buffer in buffers:
                self._transport.write(bytes(buffer) if copied else buffer)
            return
        # A call of the system costs more than copying that: what is sent in one turn of the event loop goes together.
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += [head, content, *map(bytes, buffers)] if buffers else [head, content]

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    @abstractmethod
    def received(self, what: What, number: int, value: Any) -> None:  # noqa: ANN401 (any value)
        """Act on a frame."""

    @abstractmethod
    def lost(self) -> None:
        """Act on the end of the connection."""

    @abstractmethod
    def confused(self, error: Exception) -> None:
        """Note that what came is no frame of ours, before the connection is cut."""


def framed(what: What, number: int, value: object = None) -> tuple[int, bytes, bytes, list[memoryview]]:
    """
    Make a frame: give its size in bytes, its head, its message, and the memory of each array, not copied.

    Raises:
        NotSerialisable: The value is no data.
        StateTooLarge: It is larger than a frame may be.
    """
    content, buffers = written(value)
    lengths = [len(buffer) for buffer in buffers]
    size = _HEAD.size + len(content) + sum(lengths) + _LENGTH.size * len(lengths)
    if size > LARGEST or len(buffers) > MOST_BUFFERS:
        msg = f"{size} bytes in {len(buffers)} arrays are to be sent to another process, more than {LARGEST}"
        raise StateTooLarge(msg, hint="send less at once, or share a large array by `SharedArray`")
    head = _HEAD.pack(VERSION, what, len(buffers), len(content), number)
    if buffers:
        head += b"".join(map(_LENGTH.pack, lengths))
    return size, head, content, buffers


def packed(what: What, value: object = None) -> bytes:
    """Make a frame in one piece, for what takes bytes as they are."""
    _, head, content, buffers = framed(what, 0, value)
    return b"".join([head, content, *buffers])


def unframed(frame: bytes | bytearray | memoryview) -> tuple[What, int, Any]:
    """Read a frame that is whole; its arrays are views of it if it is a `bytearray`, and of a copy otherwise."""
    _, what, count, length, number = _HEAD.unpack_from(frame)
    if not count:  # nothing of what is read is a view
        return _WHATS[what], number, read(memoryview(frame)[_HEAD.size : _HEAD.size + length], ())
    whole = memoryview(frame if isinstance(frame, bytearray) else bytearray(frame))
    start = _HEAD.size + count * _LENGTH.size
    at, buffers = start + length, list[memoryview]()
    for each in range(count):
        (size,) = _LENGTH.unpack_from(whole, _HEAD.size + each * _LENGTH.size)
        buffers.append(whole[at : at + size])
        at += size
    return _WHATS[what], number, read(whole[start : start + length], buffers)


def _size(received: memoryview) -> int | None:
    """Give the size of the frame that begins there, as soon as it says so itself."""
    if len(received) < _HEAD.size:
        return None
    version, _, count, length, _ = _HEAD.unpack_from(received)
    if version != VERSION or count > MOST_BUFFERS:
        msg = f"a frame of version {version} with {count} buffers"
        raise ValueError(msg)
    start = _HEAD.size + count * _LENGTH.size
    if len(received) < start:
        return None
    size: int = start + length
    for each in range(count):
        size += _LENGTH.unpack_from(received, _HEAD.size + each * _LENGTH.size)[0]
    if size > LARGEST:
        msg = f"a frame of {size} bytes"
        raise ValueError(msg)
    return size
