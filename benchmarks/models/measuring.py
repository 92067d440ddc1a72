"""Each round starts each program anew, and asks it alone, so that none that polls or rests disturbs another."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.models.load import Wrk, percentile
from benchmarks.models.results import PART, Memory, Speed
from benchmarks.models.servers import DIRECT, POOLED, with_tenure
from benchmarks.served.load import CannotMeasure, find_wrk

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from benchmarks.models.load import Times
    from benchmarks.models.servers import Running, Server

CALLERS = (1, 8, 64)
LONGER = 3
"""How much longer the most of them ask, so that one in a hundred of what is asked meanwhile is more than one."""
SAMPLES = 16
"""Texts for which all must give the same."""
ALIKE = 0.001
"""How far two scores may be apart: in a batch, the last digits of a vector are others."""
MEMORY_OF = tuple((scope, workers) for scope in ("app", "host") for workers in (1, 2, 4))


@dataclass(frozen=True)
class Effort:
    """
    How much is measured.

    Attributes:
        rounds: How many rounds there are.
        seconds: How long each load of a round takes, and the greatest `LONGER` times as long.
        memory: How many rounds there are of memory.
    """

    rounds: int
    seconds: int
    memory: int


@contextmanager
def folder() -> Generator[Path]:
    """Give a folder for a block, whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        yield Path(made)


def verify(everyone: Sequence[Server], where: Path) -> None:
    """
    Hold the answers of all against one another: the same three, alone and in company.

    Raises:
        CannotMeasure: They are not.
    """
    expected: list[list[dict[str, float]]] = []
    for server in everyone:
        with server.serve(where) as running:
            found = [running.search(number) for number in range(SAMPLES)]
            with ThreadPoolExecutor(SAMPLES) as threads:
                together = list(threads.map(running.search, range(SAMPLES)))
        expected = expected or found
        for answers in (found, together):
            if not all(_alike(one, other) for one, other in zip(answers, expected, strict=True)):
                message = f"{server.name} does not find what {everyone[0].name} does: {answers}, {expected}"
                raise CannotMeasure(message)


def _alike(one: list[dict[str, float]], other: list[dict[str, float]]) -> bool:
    return len(one) == len(other) and all(
        mine["id"] == its["id"] and abs(mine["score"] - its["score"]) < ALIKE
        for mine, its in zip(one, other, strict=True)
    )


def speed(advance: Callable[[str], None], everyone: Sequence[Server], effort: Effort) -> list[Speed]:
    """
    Measure how fast all are, in rounds; each begins with another.

    Raises:
        CannotMeasure: A program did not start, or not every request was answered.
    """
    found: dict[tuple[str, int], list[tuple[Times, Times]]] = {}
    with folder() as where:
        wrk = Wrk(find_wrk(advance), where)
        for number in range(effort.rounds):
            first = number * 2 % len(everyone)
            for server in (*everyone[first:], *everyone[:first]):
                advance(f"{server.name}, round {number + 1} of {effort.rounds}")
                with server.serve(where) as running:
                    wrk.press(running, CALLERS[-1], 1)
                    for callers in CALLERS:
                        seconds = effort.seconds * (LONGER if callers == CALLERS[-1] else 1)
                        asked, pings = wrk.press(running, callers, seconds)
                        if not asked.requests:
                            message = f"{server.name} answered none of {callers} callers within {seconds} s"
                            raise CannotMeasure(message)
                        found.setdefault((server.id, callers), []).append((asked, pings))
    return [_row(server, callers, found) for server in everyone for callers in CALLERS]


def _row(server: Server, callers: int, found: dict[tuple[str, int], list[tuple[Times, Times]]]) -> Speed:
    mine = [asked for asked, _ in found[server.id, callers]]
    pooled = [asked for asked, _ in found[POOLED.id, callers]]
    direct = [asked for asked, _ in found[DIRECT.id, callers]]
    pings = [[pings] for _, pings in found[server.id, callers] if pings.requests]
    return Speed(
        server=server.name,
        callers=callers,
        per_second=round(median(each.per_second for each in mine), 1),
        p50=round(median(percentile([each], 0.5) for each in mine), 2),
        p99=round(median(percentile([each], 0.99) for each in mine), 2),
        ping_p50=round(median(percentile(each, 0.5) for each in pings), 2) if pings else None,
        ping_p99=round(median(percentile(each, 0.99) for each in pings), 2) if pings else None,
        ratio=round(median(me.per_second / it.per_second for me, it in zip(mine, pooled, strict=True)), 3),
        beyond=round(
            median(percentile([me], 0.5) - PART * percentile([it], 0.5) for me, it in zip(mine, direct, strict=True)), 2
        ),
        rounds=len(mine),
    )


def memory(advance: Callable[[str], None], rounds: int, of: Sequence[tuple[str, int]] = MEMORY_OF) -> list[Memory]:
    """Measure what tenure's takes with so many workers, each of which has answered."""
    rows: list[Memory] = []
    with folder() as where:
        wrk = Wrk(find_wrk(advance), where)
        for scope, workers in of:
            server = with_tenure(scope, workers)
            advance(f"memory: {server.name}")
            weighed = [_weighed(server, wrk, where) for _ in range(rounds)]
            rows.append(Memory(server.name, workers, weighed[0][0], round(median(each for _, each in weighed), 1)))
    return rows


def _weighed(server: Server, wrk: Wrk, where: Path) -> tuple[int, float]:
    with server.serve(where) as running:
        wrk.press(running, CALLERS[-1], 2)
        _until_all_answered(running)
        return len(running.processes()), running.memory()


def _until_all_answered(running: Running) -> None:
    """Ask on connections of their own, of which the system gives some to each worker."""
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(running.search, range(16 * running.server.workers)))
