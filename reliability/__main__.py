"""`python -m reliability`: break things, see what comes of it, and write it into docs/reliability.md."""

from __future__ import annotations

import argparse
import secrets
import sys

from benchmarks.progress import Progress
from reliability import page
from reliability.compare import run as comparing
from reliability.compare.measures import MEASURES
from reliability.soak import results as soaked
from reliability.soak import run as soaking

LONG = 600.0
"""Seconds from which on a soak is written down."""


def main() -> int:
    """Do what the command line says; 1 says that a soak has lost something."""
    arguments = parse()
    if arguments.what == "report":
        page.write({**told_of_soak(soaked.Results.read()), **told_of_comparison(comparing.Results.read())})
        print(page.PAGE)  # noqa: T201 (what was written)
        return 0
    with Progress() as progress:
        if arguments.what == "soak":
            return soak(progress, arguments)
        compare(progress, arguments.only)
        return 0


def soak(progress: Progress, arguments: argparse.Namespace) -> int:
    """Run a soak, show it, and, unless it was short, write it down."""
    results = soaking.soak(progress, arguments.seconds, arguments.seed, arguments.workers, arguments.rate)
    soaking.show(progress, results)
    if arguments.seconds < LONG:
        progress.say(f"Nothing is written: less than {LONG:.0f} s are for trying things out.")
    else:
        results.write()
        page.write(told_of_soak(results))
        progress.say(f"wrote {soaked.PLACE} and {page.PAGE}")
    for missed in (name for name, met in results.verdicts.items() if not met):
        progress.say(f"[red]missed[/]: {missed}")
    return int(not results.holds)


def compare(progress: Progress, only: list[str]) -> None:
    """Compare, show it, and, unless it was a part, write it down."""
    results = comparing.compare(progress, measures=[each for each in MEASURES if not only or each.id in only])
    if only:
        progress.say("Nothing is written: some faults alone are for trying things out.")
        return
    results.write()
    page.write(told_of_comparison(results))
    progress.say(f"wrote {comparing.PLACE} and {page.PAGE}")


def told_of_soak(results: soaked.Results) -> dict[str, str]:
    """Give the parts of the page that a soak fills."""
    return {**soaked.tables_of(results), "soaked": f"Seed {results.seed}. {page.machine(results.about)}"}


def told_of_comparison(results: comparing.Results) -> dict[str, str]:
    """Give the parts of the page that a comparison fills."""
    return {**comparing.tables_of(results), "machine": page.machine(results.about)}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    soak = what.add_parser("soak", help="roster under load, while what it needs fails; 1 if something was lost")
    soak.add_argument(
        "--seconds", type=float, default=LONG, help="how long there is load; below 600, nothing is written"
    )
    soak.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="decides faults and load")
    soak.add_argument("--workers", type=int, default=4)
    soak.add_argument("--rate", type=float, default=soaking.RATE, help="requests in a second")
    compare = what.add_parser("compare", help="three ways to write an app, and the same faults for each")
    compare.add_argument("--only", nargs="*", default=[], choices=[each.id for each in MEASURES], metavar="FAULT")
    what.add_parser("report", help="write the tables anew from soak.json and compare.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
