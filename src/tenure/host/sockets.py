"""Where the unix socket of a service lies: beside its files or, where no socket could have that path, in `/tmp`."""

from __future__ import annotations

import os
import re
import secrets
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path

from tenure.errors import HostServiceError

LONGEST_SOCKET = 103
"""Bytes that the path of a unix socket may have: 107 on Linux, 103 on macOS."""
SHORT_PLACE = Path("/tmp")  # noqa: S108 (a folder of our own is made in it, in mode 0700 and under a random name)
PLAIN = re.compile(r"[\w./@+-]+", re.ASCII)
"""Paths that servers, clients and URLs all read alike."""


def socket_path(home: Path, name: str) -> Path:
    """Give the path of a socket of the service whose files are in `home`, once `make_socket_folder` has been there."""
    folder = home / "sockets"
    return (folder.readlink() if folder.is_symlink() else folder) / name


def make_socket_folder(home: Path, name: str) -> None:
    """
    Make the folder for a socket: in `home`, or elsewhere with a link in `home`, if the path would be long or odd.

    Raises:
        HostServiceError: A folder of that name is there which others may enter.
    """
    usual = home / "sockets" / name
    if not usual.parent.is_symlink() and not _holds_socket(usual):
        usual.parent.symlink_to(SHORT_PLACE / f"tenure-{secrets.token_hex(8)}")
    folder = socket_path(home, name).parent
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:  # noqa: PLR2004
        message = f"{folder}, the folder for the server's socket, is not a folder of mode 0700 that its user owns"
        raise HostServiceError(message, hint="remove it")


def _holds_socket(path: Path) -> bool:
    return PLAIN.fullmatch(str(path)) is not None and len(os.fsencode(path)) <= LONGEST_SOCKET


def is_same_user(connection: socket.socket) -> bool:
    """Tell whether the process at the other end of a unix socket runs as this process's user, or as root."""
    if sys.platform != "linux":  # the folder's mode is what keeps others away
        return True
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in {os.geteuid(), 0}
