"""What requests leave behind: cyclic garbage for each library, and whether memory stays flat with tenure."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cases import Case
from benchmarks.contenders import TENURE, contenders
from benchmarks.driver import Client, started
from benchmarks.results import Amount
from benchmarks.works import FUNCTION, MAIN, ONE, WORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.contenders import Contender
    from benchmarks.works import Work

GARBAGE_REQUESTS = 200
SETTLED_AFTER = 2_000
"""Requests until caches are filled and the allocator has what it needs."""

FLAT_BYTES = 0.5
"""Bytes per request below which memory is called flat: a leak of one object per request would be at least 16."""


async def garbage(everyone: Sequence[Contender], advance: Callable[[str], None]) -> list[Amount]:
    """Count, for each contender, the objects that only the cycle collector can free."""
    rows: list[Amount] = []
    for contender in everyone:
        counts = [await cyclic(Case(work, contender)) for work in MAIN]
        advance("cyclic garbage")
        rows.append(
            Amount(
                "garbage",
                "cyclic garbage per request",
                contender.name,
                round(max(counts), 2),
                "objects",
                bar=0 if contender.name == TENURE else None,
                note=" / ".join(f"{count:g}" for count in counts),
            )
        )
    return rows


async def cyclic(case: Case) -> float:
    """Count the objects per request that the collector finds after some requests without it."""
    with case.environment():
        app = case.build()
        async with started(app) as state:
            client = Client(app, case.work, state)
            await client.send(50)
            gc.collect()
            gc.disable()
            try:
                # What is left behind once is none of it: it is found in one of the batches only.
                return round(min([await left_by(client) for _ in range(3)]) / GARBAGE_REQUESTS, 1)
            finally:
                gc.enable()


async def left_by(client: Client) -> int:
    """Count what some requests leave to the collector."""
    await client.send(GARBAGE_REQUESTS)
    return gc.collect()


def flatness(requests: int) -> list[Amount]:
    """Send many requests to tenure, each work in a process of its own, and see what the process has grown by."""
    return [grown(work, requests) for work in (ONE, FUNCTION)]


def grown(work: Work, requests: int) -> Amount:
    """Run a process that measures one work."""
    command = [sys.executable, "-m", "benchmarks.memory", work.id, str(requests)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    return Amount(
        f"memory-{work.id}",
        f"memory over {requests:,} requests, {work.title}",
        TENURE,
        round(found["bytes"] / requests, 4),
        "bytes per request",
        bar=FLAT_BYTES,
        note=f"{found['blocks']:+,} blocks, {found['bytes'] / 1024:+,.0f} KiB resident",
    )


async def grow(work: Work, requests: int) -> dict[str, int]:
    """Send requests, and give by how much this process has grown."""
    case = Case(work, next(each for each in contenders(others=False) if each.name == TENURE))
    app = case.build()
    async with started(app) as state:
        client = Client(app, work, state)
        await client.send(SETTLED_AFTER)
        blocks, resident = weigh()
        await client.send(requests)
        blocks_after, resident_after = weigh()
    return {"blocks": blocks_after - blocks, "bytes": resident_after - resident}


def weigh() -> tuple[int, int]:
    """Give the blocks that Python has allocated and the bytes of this process in memory."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return sys.getallocatedblocks(), resident * os.sysconf("SC_PAGESIZE")


def main() -> None:
    """Measure one work: its id and the number of requests are the arguments."""
    work = next(each for each in WORKS if each.id == sys.argv[1])
    print(json.dumps(asyncio.run(grow(work, int(sys.argv[2])))))  # noqa: T201 (the parent reads it)


if __name__ == "__main__":
    main()
