"""One PostgreSQL for the workers of a machine, on a unix socket, started by the first of them."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import quote

from tenure.errors import HostServiceError
from tenure.host.accounts import Account, myself, run_as, unprivileged
from tenure.host.programs import ENVIRONMENT, Programs, find_programs
from tenure.host.supervisor import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from signal import Signals

logger = logging.getLogger("tenure.host")

PORT = 5432
"""The number in the socket's name; nothing listens on TCP."""
LONGEST_SOCKET = 103
"""Bytes that the path of a unix socket may have: 107 on Linux, 103 on macOS."""
SHORT_PLACE = Path("/tmp")  # noqa: S108 (a folder of our own is made in it, in mode 0700 and under a random name)
"""Where the socket goes when its path would be too long below the service's folder."""
ROOT_PLACE = Path("/var/lib/tenure")
"""Where root's data go when the folder lies below one that the server's user may not pass."""
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "jit": "off",
    "log_min_messages": "log",  # a failed statement is its client's to log, and may hold secrets
    "log_checkpoints": "off",
}
"""What differs from the server's own defaults; these keep every committed transaction, whatever is killed."""
ALIVE = (b"R", b"C53300\0")
"""Answers to a greeting that come from a server in service: welcome, and "too many connections"."""


class EmbeddedPostgres(Service):
    """
    A PostgreSQL server that the workers of this machine share, with nothing to install or run by hand.

    The first worker starts it, and makes the data folder if there is none; it ends when the last worker has left. Data
    stay from run to run, and a committed transaction survives the death of any process. It listens on a unix socket in
    a folder of mode 0700 alone. PostgreSQL refuses root: root's workers run it as `postgres`, else `nobody`, and no
    account is made and no mode changed outside the service's own folders. Where that user may not pass a folder above
    the data, these lie in ``/var/lib/tenure``, and a link named `home` in the folder points there.

    ::

        async with EmbeddedPostgres("var/postgres") as server:
            pool = await asyncpg.create_pool(server.dsn())

    Args:
        folder: Where the server keeps its files; made when it is missing.
    """

    stop_signal: ClassVar[Signals] = SIGINT  # PostgreSQL's word for "now, but in good order"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self._sockets: Path | None = None
        self._programs: Programs | None = None

    def dsn(self, database: str = "postgres") -> str:
        """
        Return the address of a database, as asyncpg, psycopg and SQLAlchemy take it; the same until the last has left.

        Args:
            database: The database's name; the server makes none but `postgres`.

        Raises:
            HostServiceError: The server is not acquired.
        """
        if self._sockets is None:
            message = f"the PostgreSQL in {self.folder} is not acquired"
            raise HostServiceError(message, hint="use `async with server:` first")
        return (
            f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self._sockets), safe='/')}&port={PORT}"
        )

    def acquire(self, check: Callable[[], object] = lambda: None) -> Self:
        """
        Start the server, or join the one that runs; blocks until it takes sessions.

        Args:
            check: Called while waiting; what it raises ends the wait, as a cancellation must.

        Raises:
            NoPostgres: No server program was found.
            HostServiceError: It did not start, with the reason; or this system is neither Linux nor macOS.
        """
        super().acquire(check)
        self._sockets = self._socket_folder()
        return self

    def release(self) -> None:
        """Leave the server, at once; it is stopped if nobody else uses it."""
        self._sockets = None
        super().release()

    def locate(self) -> Path:
        """
        Make the folder, and return where the data are: in it, or below `ROOT_PLACE` if the server cannot reach it.

        Raises:
            HostServiceError: The folder belongs to another user, or its data have become unreachable.
        """
        folder = super().locate()
        link = folder / "home"
        if not link.is_symlink():
            if unprivileged().can_reach(folder.parent):
                return folder
            _move_away(folder, link)
        home = link.readlink()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return home

    def account(self) -> Account:
        """Return whom the server runs as: the owner of the data, or of data to be made."""
        with suppress(FileNotFoundError):
            data = self._data.stat()
            return Account(data.st_uid, data.st_gid)
        return unprivileged()

    def environment(self) -> Mapping[str, str]:
        """Return an environment without any worker's settings or secrets."""
        return ENVIRONMENT

    def prepare(self) -> None:
        """Make whatever is missing: the way for the server's user, a folder for its socket, and the data."""
        account = self.account()
        if account != myself():
            self.home.chmod(stat.S_IMODE(self.home.stat().st_mode) | 0o011)
        _own_folder(self._choose_socket_folder(), account)
        self._programs = find_programs(account, self.home / "programs", self._major())
        if not self._data.exists():
            self._initialise(self._programs, account)
        # Nobody is left who could have written it, and the process number in it may be a stranger's by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def argv(self) -> Sequence[str]:
        """Return the command of the server, with every setting in it."""
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._data), "-k", str(self._socket_folder()), *settings]

    def evict(self) -> None:
        """Ask a server whose keeper was killed to end, where it did not end with its keeper."""
        account = self.account()
        programs = find_programs(account, self.home / "programs", self._major())
        stop = [programs.path("pg_ctl"), "stop", "-D", str(self._data), "-m", "fast", "--no-wait"]
        run_as(account, stop, ENVIRONMENT)

    def probe(self) -> bool:
        """Tell whether the server takes sessions, by greeting it."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self._socket_folder() / f".s.PGSQL.{PORT}"))
                return _greet(connection)
        except OSError:
            return False

    @property
    def _data(self) -> Path:
        return self.home / "data"

    def _major(self) -> int | None:
        with suppress(FileNotFoundError):
            return int((self._data / "PG_VERSION").read_text().split(".")[0])
        return None

    def _program(self, name: str) -> str:
        if self._programs is None:
            self._programs = find_programs(self.account(), self.home / "programs", self._major())
        return self._programs.path(name)

    def _socket_folder(self) -> Path:
        folder = self.home / "sockets"
        return folder.readlink() if folder.is_symlink() else folder

    def _choose_socket_folder(self) -> Path:
        folder = self._socket_folder()
        if folder == self.home / "sockets" and not _holds_socket(folder):
            folder.symlink_to(SHORT_PLACE / f"tenure-{secrets.token_hex(8)}")
        return self._socket_folder()

    def _initialise(self, programs: Programs, account: Account) -> None:
        # Under another name until it is whole: a start that is cut off leaves no half of a database.
        unfinished = Path(tempfile.mkdtemp(prefix="data.", dir=self.home))
        account.own(unfinished)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        made = run_as(account, [programs.path("initdb"), "-D", str(unfinished), *options], ENVIRONMENT)
        if made.returncode:
            shutil.rmtree(unfinished)
            message = f"`initdb` failed with status {made.returncode}"
            raise HostServiceError(message, path=(made.stdout + made.stderr).splitlines()[-8:])
        unfinished.rename(self._data)


def _move_away(folder: Path, link: Path) -> None:
    if (folder / "data").exists():
        message = f"{unprivileged().name}, who runs PostgreSQL for root, may not pass every folder above {folder}"
        raise HostServiceError(message, hint="let others pass them again (`chmod o+x`), or move the folder elsewhere")
    with suppress(FileExistsError):
        ROOT_PLACE.mkdir(parents=True)
        ROOT_PLACE.chmod(0o755)  # whatever the umask is
    with suppress(FileExistsError):  # another worker was first, and its word counts
        link.symlink_to(ROOT_PLACE / f"{folder.name}-{secrets.token_hex(8)}")
        logger.info(
            "the data of %s are in %s, for the server's user cannot reach them there",
            folder,
            link.readlink(),
            extra={"tenure_event": "data-moved"},
        )


def _own_folder(folder: Path, account: Account) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        account.own(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:  # noqa: PLR2004
        message = f"{folder}, the folder for the server's socket, is not a folder of mode 0700 that {account.name} owns"
        raise HostServiceError(message, hint="remove it")


def _holds_socket(folder: Path) -> bool:
    # PostgreSQL, the drivers and URLs each read some characters in their own way.
    plain = re.fullmatch(r"[\w./@+-]+", str(folder), re.ASCII) is not None
    return plain and len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET


def _greet(connection: socket.socket) -> bool:
    words = struct.pack("!i", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
    connection.sendall(struct.pack("!i", len(words) + 4) + words)
    answer = connection.recv(4096)
    connection.sendall(b"X" + struct.pack("!i", 4))
    return answer.startswith(ALIVE[0]) or ALIVE[1] in answer
