"""`python -m benchmarks`: measure, write results.json, the tables of docs/benchmarks.md and the pictures."""

from __future__ import annotations

import argparse
import sys

import uvloop
from rich.markdown import Markdown

from benchmarks import profiling, run, tables
from benchmarks.picture import draw
from benchmarks.progress import Progress
from benchmarks.results import Results


def main() -> int:
    """Do what the command line says; 1 says that a bar is missed by more than the spread, with `--check`."""
    arguments = parse()
    if arguments.what == "report":
        results = Results.read()
        tables.write(tables.tables_of(results))
        print(*draw(results), tables.PAGE, sep="\n")  # noqa: T201 (what was written)
        return 0
    with Progress() as progress:
        if arguments.what == "profile":
            found = uvloop.run(profiling.profiles(20 if arguments.quick else 100, progress.advance_to))
            tables.write({"profile": tables.profile(found)})
            progress.say(Markdown(tables.profile(found)))
            return 0
        if arguments.check:
            return run.check(progress, run.EFFORTS[mode(arguments)])
        run.everything(progress, mode(arguments))
        return 0


def mode(arguments: argparse.Namespace) -> str:
    """Give how much is to be measured."""
    return "quick" if arguments.quick else "full" if arguments.full else "default"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=["run", "profile", "report"],
        default="run",
        help="measure, as it does unasked; say where tenure's microseconds go; write tables and pictures anew",
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="less than a minute; too few rounds to be written down")
    effort.add_argument("--full", action="store_true", help="many rounds, and a million requests for memory")
    parser.add_argument("--check", action="store_true", help="tenure alone; write nothing; fail where a bar is missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
