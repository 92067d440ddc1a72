"""The faults, and what is said of what an app does then; each meets an app that has just been started."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from reliability.compare.subject import NAME, POOL, Subject, within
from reliability.servers import CannotTest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COMMITS = 20
READS = 200
STREAMS = 20
CROWD = 100
LEAVING = 60
NEXT = 20
CLIENTS = 10
SILENCE = 6.0
FORGOTTEN = 40.0
WELL = 200
MADE = 201
PATIENCE = 60.0
"""Seconds that a client waits, where it is not said otherwise."""
OPENING = 2.0
"""Seconds that a stream has to begin."""


@dataclass(frozen=True)
class Measure:
    """
    A fault.

    Attributes:
        id: The word for it.
        title: What is done.
        find: Does it, and says what the app did.
    """

    id: str
    title: str
    find: Callable[[Subject], Awaitable[str]]


async def commits(subject: Subject) -> str:
    """Write what only the commit can refuse."""
    await subject.client.post("/rows/1")
    answers = [await subject.client.post("/rows/1", headers={"Connection": "close"}) for _ in range(COMMITS)]
    return f"{sum(answer.is_success for answer in answers)} of {COMMITS}"


async def reads(subject: Subject) -> str:
    """Read what was written just now, on another connection."""
    misses = 0
    async with httpx.AsyncClient(base_url=subject.server.url, timeout=60) as reader:
        for number in range(READS):
            await subject.client.post(f"/rows/{number}")
            misses += not (await reader.get(f"/rows/{number}")).json()
    return f"{misses} of {READS}"


async def streams(subject: Subject) -> str:
    """Open streams, then ask for something else."""
    sent = [await subject.send("/stream") for _ in range(STREAMS)]
    began = await asyncio.gather(*[_begins(reader) for reader, _ in sent])
    status, seconds = await subject.status("/probe", 5)
    for _, writer in sent:
        writer.transport.abort()
    return f"{_answered(status, seconds, 5)}; {sum(began)} of {STREAMS} streams had begun"


async def nested(subject: Subject) -> str:
    """Have every connection held by one who asks for another."""
    found = await asyncio.gather(*[subject.status("/nested", 5) for _ in range(POOL)])
    well = [seconds for status, seconds in found if status == WELL]
    return f"{len(well)} of {POOL} within 5 s" if len(well) < POOL else f"{POOL} of {POOL}, in {max(well):.1f} s"


async def crowd(subject: Subject) -> str:
    """Ask more at once than there are connections, and something that needs none."""
    is_over = asyncio.Event()
    waits = [0.0]

    async def ask_plain() -> None:
        while not is_over.is_set():
            waits.append((await subject.status("/plain", PATIENCE))[1])
            await asyncio.sleep(0.05)

    begin = time.monotonic()
    asking = [asyncio.create_task(subject.status("/query", PATIENCE)) for _ in range(CROWD)]
    await asyncio.sleep(0.1)
    plain = asyncio.create_task(ask_plain())
    failed = Counter(status for status, _ in await asyncio.gather(*asking) if status != WELL)
    seconds = time.monotonic() - begin
    is_over.set()
    await plain
    return f"{_counted(failed) or 'no error'}, all within {seconds:.1f} s; the other route {max(waits):.2f} s"


async def leaving(subject: Subject) -> str:
    """Have clients leave a statement of twenty seconds."""
    sent = [await subject.send("/slow") for _ in range(LEAVING)]

    async def all_are_busy() -> bool:
        return await subject.active() == POOL

    async def all_are_free() -> bool:
        return await subject.active() == 0

    if await within(all_are_busy, 10) is None:
        message = f"{LEAVING} statements of 20 s do not keep {POOL} connections busy"
        raise CannotTest(message)
    await asyncio.sleep(1)  # until all have been read
    for _, writer in sent:
        writer.transport.abort()
    seconds = await within(all_are_free, 10)
    return "not within 10 s" if seconds is None else f"{seconds:.2f} s"


async def killed(subject: Subject) -> str:
    """End the app's connections at the server."""
    await asyncio.gather(*[subject.status("/query", 10) for _ in range(POOL)])
    await subject.observer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", NAME
    )
    answers = [await subject.status("/probe", 10) for _ in range(NEXT)]
    return f"{sum(status != WELL for status, _ in answers)} of {NEXT}"


async def silence(subject: Subject) -> str:
    """Let nothing through to the database, and close nothing; then let it through again."""
    await asyncio.gather(*[subject.status("/query", 10) for _ in range(POOL)])
    answers: list[tuple[float, float, int | None]] = []
    is_over = asyncio.Event()

    async def ask() -> None:
        while not is_over.is_set():
            asked = time.monotonic()
            status, seconds = await subject.status("/probe", PATIENCE)
            answers.append((asked, seconds, status))
            await asyncio.sleep(0.1)

    await asyncio.to_thread(subject.proxy.fall_silent)
    began = time.monotonic()
    clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    await asyncio.sleep(SILENCE)
    spoke = time.monotonic()
    await asyncio.to_thread(subject.proxy.speak)
    recovered = await within(lambda: _are_well(subject), 15)
    is_over.set()
    await asyncio.gather(*clients)
    during = [answer for answer in answers if began <= answer[0] < spoke]
    kinds = Counter(status for _, _, status in during)
    told = _counted(kinds)
    after = "not well within 15 s" if recovered is None else f"well {recovered:.1f} s after it"
    return f"{max(seconds for _, seconds, _ in during):.1f} s; {told}; {after}"


async def forgotten(subject: Subject) -> str:
    """Let nothing through on the connections that there are, for ever, and close none; new ones are served."""
    await asyncio.gather(*[subject.status("/query", 10) for _ in range(POOL)])
    await asyncio.to_thread(subject.proxy.forget)
    seconds = await within(lambda: _are_well(subject, FORGOTTEN), FORGOTTEN)
    return f"not within {FORGOTTEN:.0f} s" if seconds is None else f"{seconds:.1f} s"


async def ending(subject: Subject) -> str:
    """End it as an init system does, with a stream open and a connection that was never given back."""
    reader, writer = await subject.send("/stream")
    await _begins(reader)
    await subject.client.get("/leak")
    ended = await asyncio.to_thread(subject.server.stop, 15)
    writer.transport.abort()
    closed = "all is closed" in subject.server.log.read_text()
    exited = "not within 15 s, killed" if ended.status is None else f"{ended.seconds:.1f} s"
    return f"{exited}; {'closed' if closed else 'nothing closed'}"


async def _begins(reader: asyncio.StreamReader) -> bool:
    with suppress(TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(OPENING):
            return b" 200 " in await reader.readuntil(b"\r\n")
    return False


async def _are_well(subject: Subject, limit: float = 1) -> bool:
    answers = await asyncio.gather(*[subject.status("/probe", limit) for _ in range(POOL)])
    return all(status == WELL for status, _ in answers)


def _answered(status: int | None, seconds: float, limit: float) -> str:
    if status is None:
        return f"not within {limit:g} s"
    return f"{1000 * seconds:.0f} ms" if status == WELL else f"{status} after {seconds:.1f} s"


def _word(status: int | None) -> str:
    return f"no answer in {PATIENCE:.0f} s" if status is None else str(status or "connection broken")


def _counted(statuses: Counter[int | None]) -> str:
    return ", ".join(f"{_word(status)} ({count})" for status, count in statuses.most_common())


MEASURES = (
    Measure("commits", f"{COMMITS} commits that fail: answered with success", commits),
    Measure("reads", f"{READS} reads just after a write whose commit takes 20 ms: rows missing", reads),
    Measure("streams", f"{STREAMS} open streams that asked for something first: a request is answered", streams),
    Measure("nested", f"{POOL} requests at once that each ask for a second connection: answered", nested),
    Measure(
        "crowd",
        f"{CROWD} requests at once of 0.1 s each: errors; a `def` route without a database waits",
        crowd,
    ),
    Measure("leaving", f"{LEAVING} clients leave a statement of 20 s: all connections are free", leaving),
    Measure("killed", f"PostgreSQL ends all connections: errors among the next {NEXT} requests", killed),
    Measure("silence", f"PostgreSQL is silent for {SILENCE:.0f} s: longest wait; answers; recovery", silence),
    Measure("forgotten", "a firewall forgets the connections: requests are answered again", forgotten),
    Measure("ending", "SIGTERM, with an open stream and a connection never given back: exit; closers", ending),
)
