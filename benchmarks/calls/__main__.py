"""The process that calls: it prints, as JSON, what it measures next, and the rows that it has found."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import uvloop

from benchmarks.calls import CONTENDERS, Plan
from benchmarks.calls.row import Found
from benchmarks.calls.subject import AT_ONCE, DATA

if TYPE_CHECKING:
    from benchmarks.calls.subject import Calling


async def main(plan: Plan, folder: Path) -> None:
    """Measure all contenders in turns: each round has each of them once."""
    async with AsyncExitStack() as stack:
        everyone: list[Calling] = []
        for name in plan.contenders:
            say(f"round trips of 4 KB: starting {name}")
            module = importlib.import_module(f"benchmarks.calls.{CONTENDERS[name]}")
            everyone += await stack.enter_async_context(module.calling(folder))
        found = {each.name: Found(each.name, each.note, each.blocks) for each in everyone}
        for each in everyone:
            await verify(each)
            await alone(each, plan.calls)
        gc.collect()
        gc.freeze()
        for number in range(plan.rounds):
            say(f"round trips of 4 KB, round {number + 1} of {plan.rounds}")
            first = number % len(everyone)
            for each in everyone[first:] + everyone[:first]:
                gc.collect()
                found[each.name].alone.append(await alone(each, plan.calls))
                found[each.name].at_once.append(await at_once(each, plan.calls))
    for each in found.values():
        say(asdict(each))


async def verify(calling: Calling) -> None:
    """Refuse to time what gives back something else, or mixes up the answers of several."""
    sent = [DATA, b"", *(number.to_bytes(2) * (len(DATA) // 2) for number in range(AT_ONCE))]
    if await asyncio.gather(*(calling.call(each) for each in sent)) != sent:
        message = f"{calling.name} gives back something else than what it was sent"
        raise AssertionError(message)


async def alone(calling: Calling, times: int) -> list[float]:
    """Call again as soon as it is answered, and give the seconds of each call."""
    taken: list[float] = []
    for _ in range(times):
        begin = perf_counter()
        await calling.call(DATA)
        taken.append(perf_counter() - begin)
    return taken


async def at_once(calling: Calling, times: int) -> float:
    """Have many who call so, and give how many calls they make in a second together."""
    left = iter(range(times * 2))

    async def some() -> None:
        for _ in left:
            await calling.call(DATA)

    begin = perf_counter()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return times * 2 / (perf_counter() - begin)


def say(what: object) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(Plan.read(sys.argv[1]), Path(sys.argv[2])))
