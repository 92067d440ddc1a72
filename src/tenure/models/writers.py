"""Who else than its owner may change a file, or put another in its place."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def writers(status: os.stat_result) -> str | None:
    """
    Name those that may write, beside the owner, this user and the superuser: `None` where there are none.

    A group that the system knows no other member of does not count: one of the owner's own is the default of many
    systems, and one without a name is how a volume is given to a container.
    """
    if status.st_mode & stat.S_IWOTH:
        return "every user"
    if status.st_mode & stat.S_IWGRP and (others := _members(status.st_gid) - _trusted(status.st_uid)):
        return f"others of its group, as {min(others)}"
    return None


def replacers(folder: Path) -> str | None:
    """Name those that may put another file in the place of one in a folder; in a sticky one, as /tmp is, none may."""
    status = folder.stat()
    return None if status.st_mode & stat.S_ISVTX else writers(status)


def _members(group: int) -> set[str]:
    named = {user.pw_name for user in pwd.getpwall() if user.pw_gid == group}
    try:
        return named.union(grp.getgrgid(group).gr_mem)
    except KeyError:
        return named


def _trusted(owner: int) -> set[str]:
    return {user.pw_name for user in pwd.getpwall() if user.pw_uid in {owner, os.geteuid(), 0}}
