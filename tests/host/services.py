"""Services to keep in the tests; in a module of their own, for the keeper imports them by name."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, ClassVar

from tenure.host import EmbeddedPostgres, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
if os.path.exists(sys.argv[1]):
    os.unlink(sys.argv[1])
server.bind(sys.argv[1])
server.listen()
while True:
    connection, _ = server.accept()
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""


TALK = """    connection.close()
    print("x" * 1_000_000, "said by", os.getpid(), flush=True)"""


class Answering(Service):
    """Tells its process number to whoever connects."""

    def argv(self) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, "-c", ANSWER, self.address()]

    def probe(self) -> bool:
        """Tell whether it answers."""
        try:
            return bool(self.pid())
        except OSError:
            return False

    def address(self) -> str:
        """Return the path of the socket."""
        return str(self.home / "socket")

    def pid(self) -> int:
        """Ask the service for its process number."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(self.address())
            return int(connection.recv(64) or 0)


class Talkative(Answering):
    """Says much whenever it is asked."""

    def argv(self) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, "-c", ANSWER.replace("    connection.close()", TALK), self.address()]


class Deaf(Answering):
    """Does not mind being asked to end."""

    stop_timeout: ClassVar[float] = 0.2

    def argv(self) -> Sequence[str]:
        """Return the command."""
        deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        return [sys.executable, "-c", f"{deaf}\n{ANSWER}", self.address()]


class Broken(Answering):
    """Ends as soon as it starts."""

    def argv(self) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, "-c", "raise SystemExit('the disk is on fire')"]


class Unprepared(Answering):
    """Cannot be prepared."""

    def prepare(self) -> None:
        """Fail in a way that nobody foresaw."""
        message = "no space left"
        raise ArithmeticError(message)


class Slow(Answering):
    """Never answers."""

    start_timeout: ClassVar[float] = 6.0

    def argv(self) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, "-c", "import time; print('still loading', flush=True); time.sleep(600)"]


class Endless(Slow):
    """Never answers, and is given a long time to do so."""

    start_timeout: ClassVar[float] = 600.0


class Database(EmbeddedPostgres):
    """The embedded PostgreSQL, in a form that the worker of these tests can name."""

    def address(self) -> str:
        """Return where it is."""
        return self.dsn()
