"""The tables of docs/benchmarks.md on models and calls, between the page's markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.elsewhere.results import AT_LEAST, TENURE
from benchmarks.tables import duration, table, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.elsewhere.results import Call, Results
    from benchmarks.models.results import Memory, Speed
    from benchmarks.results import Amount


def tables_of(results: Results) -> dict[str, str]:
    """Give every table that a run fills."""
    return {
        "elsewhere": table(bars(results.bars)),
        "models": table(speed(results.speed)),
        "models-memory": table(memory(results.memory)),
        "calls": table(calls(results.calls)),
        "recovery": table(recovery(results.recovery)),
        "elsewhere-machine": machine(results),
    }


def bars(rows: Sequence[Amount]) -> list[list[str]]:
    """Hold tenure against its bars; its head first, as all of these."""
    lines = [["what", "measured", "bar", "", ""]]
    for row in rows:
        least = row.note == AT_LEAST
        bar = f"{'≥' if least else '≤'} {row.bar:g}"
        lines.append([row.title, f"**{row.value:g}** {row.unit}", bar, verdict(row.met), "" if least else row.note])
    return lines


def speed(rows: Sequence[Speed]) -> list[list[str]]:
    """Say how fast programs are, each with all of its callers in a line."""
    callers = list(dict.fromkeys(row.callers for row in rows))
    heads = [f"{number} caller{'s' if number > 1 else ''}" for number in callers]
    lines = [["", *heads, f"over `def` at {callers[-1]}"]]
    for server in dict.fromkeys(row.server for row in rows):
        mine = [row for row in rows if row.server == server]
        lines.append(_ours(server, [server, *(_load(row) for row in mine), f"{mine[-1].ratio:.2f}"]))
    return lines


def _load(row: Speed) -> str:
    ping = "none" if row.ping_p99 is None else f"{row.ping_p99:.1f}"
    return f"{row.per_second:,.0f}/s · {row.p50:.1f} / {row.p99:.1f} · {ping}"


def memory(rows: Sequence[Memory]) -> list[list[str]]:
    """Say what programs take with more workers."""
    lines = [["model", "workers", "processes", "all together", "for each more"]]
    before: dict[str, Memory] = {}
    for row in rows:
        name = row.server.partition(",")[2].strip().partition(",")[0]
        last = before.get(name)
        before[name] = row
        each = "" if last is None else f"{(row.megabytes - last.megabytes) / (row.workers - last.workers):.0f} MB"
        lines.append(["" if last else name, str(row.workers), str(row.processes), f"{row.megabytes:.0f} MB", each])
    return lines


def calls(rows: Sequence[Call]) -> list[list[str]]:
    """Say how long calls take."""
    lines = [["", "a lone caller: p50", "p99", "32 callers", ""]]
    for row in rows:
        told = [row.contender, duration(row.p50), duration(row.p99), f"{row.per_second:,.0f}/s", row.note]
        lines.append(_ours(row.contender, told))
    return lines


def recovery(rows: Sequence[Amount]) -> list[list[str]]:
    """Say where the time goes until an object is there again."""
    return [["until", "takes", ""], *([row.title, f"{row.value:.0f} {row.unit}", row.note] for row in rows)]


def machine(results: Results) -> str:
    """Say where, when and on what."""
    about, where = results.about, results.about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if name != TENURE)
    revision = about["git"]["revision"][:10] + (" with changes" if about["git"]["modified"] else "")
    place = f"{where['cpu']} ({where['cores']} cores, load {where['load']} before)"
    run = f"tenure at {revision or 'no revision'}, mode {about['mode']}"
    return f"{about['date'][:10]}, {place}, {about['python']}, {run}.\n{versions}."


def _ours(name: str, line: list[str]) -> list[str]:
    return [f"**{text}**" if text else text for text in line] if name.startswith(TENURE) else line
