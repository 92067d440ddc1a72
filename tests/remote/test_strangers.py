"""Who may call an object in another process: programs of the same user, and the superuser's."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tenure.host.sockets import is_same_user
from tenure.remote.server import Server
from tests.remote.things import Thing

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tenure.remote import Remote

NOBODY = 65534


@contextmanager
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Be another user for a block or, where that may not be, make all others be another."""
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def sockets_below(folder: Path) -> list[Path]:
    """Find all sockets of a folder."""
    return [path for path in folder.rglob("*") if path.is_socket()]


def open_to_all(socket: Path) -> None:
    """Let anybody connect."""
    socket.chmod(0o666)


@pytest.fixture
def path(place: Path) -> Path:
    """Give a socket's path that anybody may reach, so that nothing but the question who it is keeps others away."""
    place.chmod(0o777)
    return place / "object"


async def test_others_cannot_reach_the_socket(place: Path, handle: Remote[Thing]) -> None:
    """The socket is its user's alone, in a folder that its user alone may enter."""
    await handle(Thing.process)
    sockets = sockets_below(place)
    assert [stat.S_IMODE(path.stat().st_mode) for path in sockets if path.name == "object"] == [0o600]
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in sockets} == {0o700}


async def test_a_process_of_another_user_is_hung_up_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever connects as another user hears nothing, not even that the object is ready."""
    async with Server(Thing.__new__(Thing)).listening(path):
        open_to_all(path)
        with somebody_else(monkeypatch):
            stranger = socket.socket(socket.AF_UNIX)
            stranger.connect(str(path))
        reader, writer = await asyncio.open_unix_connection(sock=stranger)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert "a process of another user was hung up on" in caplog.text


def test_a_process_of_another_user_is_not_called(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens in the object's place as another user is known by the kernel's word."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        with somebody_else(monkeypatch):
            listener.bind(str(path))
            listener.listen()
            open_to_all(path)
        caller.connect(str(path))
        assert not is_same_user(caller)
