"""The account that a service runs as when the workers are root and the service refuses to be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from tenure.errors import HostServiceError

if sys.platform != "win32":
    import pwd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NAMES = ("postgres", "nobody")
"""Accounts without privileges that a machine may have already, the best first; none is ever created."""


class Switch(TypedDict):
    """The options of `subprocess` that say as whom a program runs."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group of this machine, without further groups."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name, or its number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def can_reach(self, folder: Path) -> bool:
        """Tell whether the modes of a resolved folder, and of every one above it, let this account pass."""
        return all(self._can_pass(place.stat()) for place in (folder, *folder.parents))

    def _can_pass(self, place: os.stat_result) -> bool:
        if place.st_uid == self.uid:
            return bool(place.st_mode & stat.S_IXUSR)
        return bool(place.st_mode & (stat.S_IXGRP if place.st_gid == self.gid else stat.S_IXOTH))

    def own(self, path: Path) -> None:
        """Give a file or folder to this account."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def myself() -> Account:
    """Return the account that this process runs as."""
    return Account(os.geteuid(), os.getegid())


def unprivileged() -> Account:
    """
    Return the account for a server that refuses to run as root: this process's own, unless that is root.

    Raises:
        HostServiceError: This process is root, and the machine has none of the accounts named in `NAMES`.
    """
    if os.geteuid() != 0:
        return myself()
    for name in NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    message = f"root may not run this server, and there is no user named {' or '.join(NAMES)} to run it as"
    raise HostServiceError(message, hint="run the app as an ordinary user")


def run_as(account: Account, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as an account, in the root folder, its output caught as text."""
    return subprocess.run(  # noqa: S603 (programs that this package found, never a user's text)
        argv,
        check=False,
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        **switch(account),
    )


def switch(account: Account) -> Switch:
    """Return the options of `subprocess` that change to an account; none when this process has it already."""
    if account == myself():
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}
