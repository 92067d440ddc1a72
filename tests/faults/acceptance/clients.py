"""Clients of the machines of a test: such as add, each in one way, and such as hear news."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.faults.acceptance.machines import GONE, PATIENCE, Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.faults.acceptance.machines import Machine

WAYS = ("threaded", "awaited", "background", "socket")


class Client:
    """
    Sends one add after the other to a machine, over another connection when its worker was killed.

    Attributes:
        sent: How many.
        acknowledged: How many of those have surely been made.
        pid: Which worker it is connected to.
        pids: Which ones it ever was.
    """

    def __init__(self, machine: Machine, way: str) -> None:
        self.machine = machine
        self.way = way
        self.sent = self.acknowledged = self.pid = 0
        self.pids = set[int]()

    def press(self, times: int) -> None:
        """Add so many times; each answer is above all that came from this machine before the add was sent."""
        while self.sent < times:
            with suppress(*GONE, WebSocketException), self._connected() as add:
                while self.sent < times:
                    least = self.machine.greatest
                    self.sent += 1
                    value = add()
                    self.acknowledged += 1
                    assert value > least
                    self.machine.greatest = max(value, self.machine.greatest)

    @contextmanager
    def _connected(self) -> Generator[Callable[[], int]]:
        if self.way == "socket":
            with connect(f"ws://127.0.0.1:{self.machine.port}/socket", open_timeout=PATIENCE) as socket:
                self._note(json.loads(socket.recv(PATIENCE)))

                def add() -> int:
                    socket.send("")
                    return int(json.loads(socket.recv(PATIENCE)))

                yield add
            return
        connection = Connection(self.machine)
        try:
            self._note(connection.pid)
            yield lambda: self._ask(connection)
        finally:
            connection.close()

    def _note(self, pid: int) -> None:
        self.pid = pid
        self.pids.add(pid)

    def _ask(self, connection: Connection) -> int:
        value = int(connection.ask(f"/{self.way}"))
        # An answer comes before what is done in the background; what the same event loop answers next, after it.
        return int(connection.ask("/value")) if self.way == "background" else value


class Watcher:
    """Hears news from one worker, each with the time at which it came."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard = SimpleQueue[tuple[Any, float]]()
        self._thread = Thread(target=self._listen)
        self._thread.start()
        assert self.next()[0] == "subscribed"

    def _listen(self) -> None:
        with suppress(*GONE):
            for line in self._connection.lines("/news"):
                self._heard.put((json.loads(line), time.monotonic()))

    def next(self) -> tuple[Any, float]:
        """Wait for what comes next, and tell when that came."""
        try:
            return self._heard.get(timeout=PATIENCE)
        except Empty:
            pytest.fail(f"nothing is heard, within {PATIENCE:g} s")

    def leave(self) -> None:
        """Hear no more."""
        self._connection.cut()
        self._thread.join(PATIENCE)
