"""What is broken, one thing at a time, in an order that a seed decides."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from reliability.servers import CannotTest, kill
from reliability.soak.outcomes import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reliability.proxying import ProxyProcess
    from reliability.servers import Server
    from reliability.soak.load import Load
    from tenure.host.postgres import EmbeddedPostgres

GAP = (5.0, 15.0)
"""Seconds from the beginning of a fault to that of the next."""
LEAVING = 100
"""Clients that leave at once."""
SILENCE = (2.0, 6.0)
RECOVERY = 120
"""Seconds after which what was broken counts as not coming back."""


class Faults:
    """
    Breaks things.

    Attributes:
        made: What was broken so far.
    """

    def __init__(self, service: Server, database: EmbeddedPostgres, proxy: ProxyProcess, load: Load, seed: int) -> None:
        self.made: list[Fault] = []
        self._service = service
        self._database = database
        self._proxy = proxy
        self._load = load
        self._chance = random.Random(seed)  # noqa: S311 (an order that can be had again)
        self._left: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    async def one(self) -> Fault:
        """
        Break one thing, each once before one comes again, and wait until all is as it was.

        Raises:
            CannotTest: It does not become as it was.
        """
        if not self._left:
            self._left = [
                ("a worker killed (SIGKILL)", self._kill_worker),
                ("a worker ended (SIGTERM)", self._end_worker),
                ("the model's process killed (SIGKILL)", self._kill_model),
                ("all connections ended by PostgreSQL", self._end_sessions),
                ("PostgreSQL killed (SIGKILL) and restarted", self._kill_database),
                ("PostgreSQL silent", self._silence),
                (f"{LEAVING} clients leave at once", self._leave),
            ]
            self._chance.shuffle(self._left)
        kind, do = self._left.pop()
        fault = Fault(kind, time.monotonic())
        self.made.append(fault)
        await do()
        await self.until_whole()
        fault.ended = time.monotonic()
        return fault

    def gap(self) -> float:
        """Give the seconds from one fault to the next."""
        return self._chance.uniform(*GAP)

    async def until_whole(self) -> None:
        """
        Wait until all workers run, and the database takes connections.

        Raises:
            CannotTest: They do not.
        """
        deadline = time.monotonic() + RECOVERY
        while not await asyncio.to_thread(self._service.is_ready) or not await self._accepts():
            if time.monotonic() > deadline:
                message = f"after {self.made[-1].kind}: not whole again in {RECOVERY} s, see {self._service.log}"
                raise CannotTest(message)
            await asyncio.sleep(0.1)

    async def _accepts(self) -> bool:
        with suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(self._database.dsn(), timeout=5)).close()
            return True
        return False

    def _victim(self) -> int:
        workers = self._service.workers()
        return self._chance.choice(workers[1:] or workers)  # the oldest is spared, for its memory to be watched

    async def _kill_worker(self) -> None:
        os.kill(self._victim(), signal.SIGKILL)
        await asyncio.sleep(0.5)  # until the kernel has ended it, and it is not taken for one that runs

    async def _end_worker(self) -> None:
        victim = self._victim()
        os.kill(victim, signal.SIGTERM)
        deadline = time.monotonic() + RECOVERY
        while victim in self._service.workers() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _kill_model(self) -> None:
        killed = set(self._service.objects())
        for process in killed:
            os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + RECOVERY
        while len(set(self._service.objects()) - killed) < len(killed) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _end_sessions(self) -> None:
        connection = await asyncpg.connect(self._database.dsn())
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roster'"
        )
        await connection.close()

    async def _kill_database(self) -> None:
        await asyncio.to_thread(kill, self._database)
        await asyncio.sleep(0.5)

    async def _silence(self) -> None:
        await asyncio.to_thread(self._proxy.fall_silent)
        await asyncio.sleep(self._chance.uniform(*SILENCE))
        await asyncio.to_thread(self._proxy.speak)

    async def _leave(self) -> None:
        await asyncio.gather(*[self._load.leave(self._chance) for _ in range(LEAVING)])
