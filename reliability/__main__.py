"""`python -m reliability`: break things, and write what came of it into docs/reliability.md."""

from __future__ import annotations

import argparse
import secrets
import sys

from benchmarks.progress import Progress
from reliability import page
from reliability.soak import results as soaked
from reliability.soak.run import show, soak

LONG = 600
"""Seconds from which on a soak is written down."""


def main() -> int:
    """Do what the command line says; 1 says that something was lost."""
    arguments = parse()
    with Progress() as progress:
        return soak_and_tell(progress, arguments.seconds, arguments.seed, arguments.workers)


def soak_and_tell(progress: Progress, seconds: float, seed: int, workers: int) -> int:
    """Run a soak, show it, and, unless it was short, write it down."""
    results = soak(progress, seconds, seed, workers)
    show(progress, results)
    if seconds < LONG:
        progress.say(f"Nothing is written: less than {LONG} s are for trying things out.")
    else:
        results.write()
        page.write({**soaked.tables_of(results), "soaked": page.machine(results.about)})
        progress.say(f"wrote {soaked.PLACE} and {page.PAGE}")
    return int(not results.holds)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("what", choices=["soak"])
    parser.add_argument("--seconds", type=float, default=LONG, help="how long a soak is; below 600 it writes nothing")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="decides faults and load")
    parser.add_argument("--workers", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
