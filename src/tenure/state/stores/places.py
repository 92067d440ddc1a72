"""
Where a deployment keeps its files on this machine.

State that ends with its last worker lies in memory: below `$XDG_RUNTIME_DIR` where that is this user's, else in
`/dev/shm`, else in the folder for temporary files, with the user's number in the name. State that is durable lies on
disk: below `$XDG_STATE_HOME`, else in `/var/lib` for root and in `~/.local/state` for others.

All workers must find the same place. systemd clears `$XDG_RUNTIME_DIR`, and what ordinary users keep in `/dev/shm`,
when a user's last session ends, unless the user lingers or is a system user, as those of services are.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from tenure.errors import StateMismatch, StateUnavailable

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (what is made there is checked to be this user's)
ROOTS_STATE = Path("/var/lib")

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def settled(deployment: str, part: str, *, durable: bool = False) -> Path:
    """
    Give the folder of one part of a deployment, such as its counters; made in mode 0700 where it is missing.

    Blocks a little.

    Raises:
        StateUnavailable: It cannot be made.
        StateMismatch: A folder on the way is another user's, open to others, or a link.
    """
    home = _durable_home() if durable else _passing_home()
    for folder in (home, home / deployment, home / deployment / part):
        _make(folder, durable=durable)
    return home / deployment / part


def named(*patterns: str) -> list[Path]:
    """Give the folders of the deployments whose names match one of these, in memory and on disk; blocks a little."""
    homes = [_passing_home()]
    with suppress(StateUnavailable):
        homes.append(_durable_home())
    return [folder for home in homes for pattern in patterns for folder in home.glob(pattern)]


def _passing_home() -> Path:
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named and _is_ours(Path(named)):
        return Path(named, "tenure")
    shared = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    return Path(SHARED_MEMORY if shared else tempfile.gettempdir(), f"tenure-{os.geteuid()}")


def _is_ours(folder: Path) -> bool:
    """Tell whether it is a folder of this user: one that `su` or `sudo` has left in the environment is not."""
    try:
        return folder.is_absolute() and folder.is_dir() and folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _durable_home() -> Path:
    named = os.environ.get("XDG_STATE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named, "tenure")
    if os.geteuid() == 0:
        return ROOTS_STATE / "tenure"
    try:
        return Path.home() / ".local" / "state" / "tenure"
    except RuntimeError as error:
        msg = "durable state has no place: this user has no home"
        raise StateUnavailable(msg, hint=_cure(durable=True)) from error


def _make(folder: Path, *, durable: bool) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        msg = f"the folder for shared state cannot be made: {error.strerror}"
        raise StateUnavailable(msg, path=[str(folder)], hint=_cure(durable=durable)) from error
    if not stat.S_ISDIR(found.st_mode):
        what = "is a link, which may lead anywhere"
    elif found.st_uid != os.geteuid():
        what = f"belongs to the user {found.st_uid}, and this process runs as {os.geteuid()}"
    elif found.st_mode & _OTHERS_WRITE:
        what = "may be written to by other users"
    else:
        return
    msg = f"the folder for shared state {what}"
    raise StateMismatch(msg, path=[str(folder)], hint=f"remove it if it is not needed, or {_cure(durable=durable)}")


def _cure(*, durable: bool) -> str:
    variable = "XDG_STATE_HOME" if durable else "XDG_RUNTIME_DIR"
    return f"set {variable} to a folder of this user, the same for all workers"
