"""A soak from its beginning to its end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
from rich.table import Table

from benchmarks.machine import about
from reliability.proxying import ProxyProcess
from reliability.servers import Server, memory, postgres
from reliability.soak.faults import Faults
from reliability.soak.load import LIVE, Load
from reliability.soak.outcomes import divided, rows
from reliability.soak.results import EXIT, Memory, Results, fault_lines, lines

if TYPE_CHECKING:
    from benchmarks.progress import Progress
    from reliability.soak.ledger import Account

RATE = 200
"""Requests that are sent in a second, all clients together."""
REST = 2.0
"""Seconds without load before it is looked at what rests."""
STREAMS = 5
"""Streams that are open when the end comes."""
FOR_ONE_CLIENT = "1000000"
PACKAGES = ("asyncpg", "httpx", "uvicorn")


def soak(progress: Progress, seconds: float, seed: int, workers: int = 4, rate: float = RATE) -> Results:
    """
    Serve roster for so long, break things, and find what came of it; each step is shown.

    Raises:
        CannotTest: It did not start, or something that was broken did not come back.
    """
    progress.say(f"seed {seed}: {workers} workers, {rate:g} requests/s, {seconds:g} s")
    with postgres() as (folder, database), ProxyProcess(database.dsn()) as proxy:
        environment = {"ROSTER_DSN": proxy.dsn, "ROSTER_WRITES_PER_MINUTE": FOR_ONE_CLIENT}
        with Server("roster.main:app", folder, workers=workers, **environment) as service:
            try:
                service.until_ready()
                load = Load(service.url, rate, seed)
                faults = Faults(service, database, proxy, load, seed)
                results = asyncio.run(_Soak(progress, service, load, faults, seconds).run(database.dsn()))
            except BaseException:
                progress.say(f"what roster has written: {_kept(service.log)}")
                raise
            results.seed = seed
            results.about = about(PACKAGES, f"{seconds:g} s")
            if not results.holds:
                progress.say(f"what roster has written: {_kept(service.log)}")
    return results


class _Soak:
    def __init__(self, progress: Progress, service: Server, load: Load, faults: Faults, seconds: float) -> None:
        self._progress = progress
        self._service = service
        self._load = load
        self._faults = faults
        self._seconds = seconds
        self._memory: dict[str, dict[str, float]] = {}

    async def run(self, dsn: str) -> Results:
        begin = time.monotonic()
        async with self._load.running():
            shown = asyncio.create_task(self._show(begin))
            await self._break(begin + self._seconds)
            seconds = time.monotonic() - begin
            await self._rest("end")
            shown.cancel()
        # Not before: this connection is one of those that a killed PostgreSQL takes with it.
        observer = await asyncpg.connect(dsn)
        connections = await self._connections(observer)
        found = await observer.fetch("SELECT username, email FROM users WHERE username LIKE 'soak-%'")
        account = self._load.ledger.account({row["username"]: row["email"] for row in found})
        counts = await self._counts()
        ending = await self._end()
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'roster'"
        connections["left"] = await observer.fetchval(left) + len(self._service.workers())
        await observer.close()
        return self._results(seconds, account, counts, connections, ending)

    async def _break(self, end: float) -> None:
        quarter = end - self._seconds * 3 / 4
        at = time.monotonic() + self._faults.gap()
        while at < end:
            await asyncio.sleep(max(0, at - time.monotonic()))
            fault = await self._faults.one()
            self._progress.say(f"{fault.kind}: whole again after {fault.ended - fault.began:.1f} s")
            if time.monotonic() > quarter and not self._memory:
                await self._rest("quarter")
                self._load.go_on()
            at = max(time.monotonic(), fault.began + self._faults.gap())
        await asyncio.sleep(max(0, end - time.monotonic()))

    async def _rest(self, moment: str) -> None:
        await self._load.pause()
        await self._faults.until_whole()
        await asyncio.sleep(REST)
        each = await asyncio.to_thread(lambda: [memory(pid) for pid in self._service.workers()])
        self._memory[moment] = asdict(Memory(each[0], sum(each) / len(each)))
        self._progress.say(f"memory at rest: {', '.join(f'{bytes_ / 1e6:.1f} MB' for bytes_ in each)}")

    async def _show(self, begin: float) -> None:
        self._progress.expect(round(self._seconds))
        while True:
            explained, unexplained = divided(self._load.errors, self._faults.made)
            told = (
                f"{len(self._load.outcomes):,} requests, {sum(explained.values())} + {sum(unexplained.values())} errors"
            )
            self._progress.advance_to(told)
            begin += 1
            await asyncio.sleep(max(0.0, begin - time.monotonic()))

    async def _connections(self, observer: asyncpg.Connection) -> dict[str, int]:
        states = [
            row["state"]
            for row in await observer.fetch("SELECT state FROM pg_stat_activity WHERE application_name = 'roster'")
        ]
        return {"all": len(states), "out": sum(state != "idle" for state in states)}

    async def _counts(self) -> dict[str, int]:
        async with httpx.AsyncClient() as client:
            counted = (await client.get(f"{self._service.url}/stats")).raise_for_status().json()["total_requests"]
        return {"answered": self._load.counts_answered, "counted": counted - 1, "sent": self._load.counts_sent}

    async def _end(self) -> dict[str, float | None]:
        async with AsyncExitStack() as stack:
            for _ in range(STREAMS):
                client = await stack.enter_async_context(httpx.AsyncClient(timeout=EXIT))
                await stack.enter_async_context(client.stream("GET", f"{self._service.url}/stats/live"))
            ended = await asyncio.to_thread(self._service.stop, EXIT + 5)
        return asdict(ended)

    def _results(
        self,
        seconds: float,
        account: Account,
        counts: dict[str, int],
        connections: dict[str, int],
        ending: dict[str, float | None],
    ) -> Results:
        outcomes, faults = self._load.outcomes, self._faults.made
        explained, unexplained = divided(self._load.errors, faults)
        short = [each for each in outcomes if each.operation != LIVE]
        outside = [each for each in short if not any(fault.explains(each) for fault in faults)]
        return Results(
            about={},
            seconds=seconds,
            seed=0,
            workers=self._service.count,
            requests=dict(Counter(each.operation for each in outcomes)),
            longest={
                "all": max(each.ended - each.asked for each in short),
                "outside": max((each.ended - each.asked for each in outside), default=0.0),
            },
            explained=dict(explained),
            unexplained=dict(unexplained),
            faults=[asdict(row) for row in rows(self._load.errors, faults)],
            writes=asdict(account),
            counts=counts,
            connections=connections,
            memory={"quarter": self._memory["end"], **self._memory},
            exit=ending,
        )


def show(progress: Progress, results: Results) -> None:
    """Print the tables."""
    for found in (fault_lines(results), lines(results)):
        head, *rest = found
        drawn = Table(*head, box=None, padding=(0, 2, 0, 0))
        for row in rest:
            drawn.add_row(*(text.replace("**", "").replace("`", "") for text in row))
        progress.say(drawn)
        progress.say("")


def _kept(log: Path) -> Path:
    kept = Path(tempfile.gettempdir()) / log.name
    shutil.copy(log, kept)
    return kept
