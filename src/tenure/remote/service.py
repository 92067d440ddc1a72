"""The process in which an object lives, as a service of the host: started by the first worker, kept by its keeper."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from tenure.host import locks
from tenure.host.sockets import make_socket_folder, socket_path
from tenure.host.supervisor import Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SOCKET = "object"
ORDER = "order.json"
FAILURE = "failure.json"
"""Why the object could not be made, by the process that tried."""


class Owner(Service):
    """
    The process of one object.

    Args:
        folder: Where its files are.
        order: What it makes, as `tenure.owner` reads it; for who may start it.
        start_timeout: Seconds that a worker waits for an object that answers.
        stop_timeout: Seconds that it has to close.
    """

    stop_timeout: ClassVar[float] = 20.0

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        order: Mapping[str, object] | None = None,
        start_timeout: float = 30,
        module: str = "tenure.owner",
    ) -> None:
        super().__init__(folder)
        self.start_timeout = start_timeout  # type: ignore[misc] # each object says how long it may take
        self._order = order
        self._socket = self.folder
        self._module = module

    def settle(self) -> Path:
        """Find out where its files are, and leave there what it is to make, which may hold a password."""
        home = super().settle()
        make_socket_folder(home, SOCKET)
        self._socket = socket_path(home, SOCKET)
        if self._order is not None:
            leave(home / ORDER, self._order)
        return home

    @property
    def socket(self) -> Path:
        """Where it answers, once it was settled."""
        return self._socket

    def prepare(self) -> None:
        """Forget why it did not start before."""
        (self.home / FAILURE).unlink(missing_ok=True)

    def failure(self) -> Exception | None:
        """Give the error for which it did not start, as it was raised there, if it has left word; blocks a little."""
        from tenure.remote.failures import made_anew  # noqa: PLC0415 (a keeper loads none of what that needs)

        try:
            return made_anew(json.loads((self.home / FAILURE).read_text()))
        except FileNotFoundError:
            return None

    def options(self) -> Mapping[str, object]:
        """Give what the keeper's own instance is made with."""
        return {"start_timeout": self.start_timeout, "module": self._module}

    def argv(self) -> Sequence[str]:
        """Give the command that makes the object and serves it."""
        return [sys.executable, "-P", "-m", self._module, str(self.home / ORDER), str(self.socket)]

    def probe(self) -> bool:
        """Tell whether it answers: it listens once the object is made."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
            except OSError:
                return False
        return True

    async def join_again(self) -> None:
        """
        Start it anew where its keeper has gone too; who is cancelled meanwhile holds nothing.

        Raises:
            HostServiceError: It does not start.
        """
        from tenure.threads import in_spare_worker  # noqa: PLC0415 (a keeper loads none of what that needs)

        if self._hold is None or not await in_spare_worker(partial(locks.is_held, self.home / "keeper")):
            self.release()
            await self.__aenter__()


def leave(path: Path, word: Mapping[str, object]) -> None:
    """Write a file, all of it at once, that only this user can read."""
    # Another name for each: two apps of one process may do so at once.
    descriptor, written = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(word, file, default=repr)
    os.replace(written, path)  # noqa: PTH105 (as they come)
