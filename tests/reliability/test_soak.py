"""What the soak says of a service is so: what is lost is counted, what no fault explains is told, and it runs."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from reliability import page
from reliability.__main__ import told_of_comparison, told_of_soak
from reliability.compare.run import Results as Compared
from reliability.proxying import ProxyProcess
from reliability.servers import PROJECT
from reliability.soak.ledger import Account, Ledger
from reliability.soak.outcomes import BROKEN, LEFT, Fault, Outcome, divided, rows
from reliability.soak.results import Results, fault_lines, lines

if TYPE_CHECKING:
    from pathlib import Path

    from tenure.host.postgres import EmbeddedPostgres


def written(*writes: tuple[str, str | None, bool]) -> Ledger:
    """Note writes: a name, the email, and whether it was acknowledged."""
    ledger = Ledger()
    for username, email, acknowledged in writes:
        ledger.send(username, email)
        if acknowledged:
            ledger.acknowledge(username)
    return ledger


@pytest.mark.parametrize(
    ("writes", "found", "account"),
    [
        pytest.param([("a", "1", True)], {"a": "1"}, Account(1, 0, 0, 0), id="kept"),
        pytest.param([("a", "1", True)], {}, Account(1, 1, 0, 0), id="lost"),
        pytest.param([("a", "1", True), ("a", "2", True)], {"a": "1"}, Account(2, 1, 0, 0), id="change lost"),
        pytest.param([("a", "1", True), ("a", None, True)], {}, Account(2, 0, 0, 0), id="removed"),
        pytest.param([("a", "1", True), ("a", None, True)], {"a": "1"}, Account(2, 1, 0, 0), id="removal lost"),
        pytest.param([("a", "1", False)], {}, Account(0, 0, 1, 0), id="never acknowledged, not made"),
        pytest.param([("a", "1", False)], {"a": "1"}, Account(0, 0, 1, 1), id="never acknowledged, made"),
        pytest.param([("a", "1", True), ("a", "2", False)], {"a": "1"}, Account(1, 0, 1, 0), id="old one kept"),
        pytest.param([("a", "1", True), ("a", "2", False)], {"a": "2"}, Account(1, 0, 1, 1), id="newer one made"),
        pytest.param([("a", "1", True), ("a", "2", False)], {}, Account(1, 1, 1, 0), id="neither is there"),
    ],
)
def test_what_was_acknowledged_must_be_there(
    writes: list[tuple[str, str | None, bool]], found: dict[str, str], account: Account
) -> None:
    """A write that was acknowledged is lost if it is not there; of one that was not, nobody says whether it is."""
    assert written(*writes).account(found) == account


def test_an_error_is_explained_by_a_fault_that_it_met() -> None:
    """A fault explains what was under way from its beginning to five seconds after its end, and nothing else."""
    fault = Fault("silence", 10, 12)
    during, after = Outcome("GET", "503", 11, 11.5), Outcome("GET", BROKEN, 16.9, 18)
    across, before, late = Outcome("GET", "503", 9, 10), Outcome("GET", "503", 8, 9.9), Outcome("GET", "500", 17.1, 18)
    well, left = Outcome("GET", "", 1, 2), Outcome("GET", LEFT, 1, 2)
    explained, unexplained = divided([during, after, across, before, late, well, left], [fault])
    assert explained == {"503": 2, BROKEN: 1}
    assert unexplained == {"503": 1, "500": 1}


def test_a_fault_that_does_not_end_explains_all_that_follows() -> None:
    """Until it is over, what fails fails because of it."""
    explained, unexplained = divided([Outcome("GET", "503", 100, 101)], [Fault("silence", 10)])
    assert (explained, unexplained) == ({"503": 1}, {})


def test_a_request_that_met_two_faults_is_told_of_the_later() -> None:
    """Each fault has how often it was made, what failed, and how long after its beginning the last did."""
    faults = [Fault("kill", 10, 11), Fault("silence", 14, 15), Fault("kill", 40, 41)]
    found = rows([Outcome("GET", "503", 14.5, 15.5), Outcome("GET", BROKEN, 41, 42)], faults)
    assert [(row.kind, row.times, row.failed, row.longest_away) for row in found] == [
        ("kill", 2, 1, 2.0),
        ("silence", 1, 1, 1.5),
    ]


@pytest.mark.parametrize(
    ("what", "value", "verdict"),
    [
        ("writes", {"acknowledged": 9, "lost": 1, "unacknowledged": 0, "found": 0}, "lost"),
        ("explained", {"wrong answer": 1}, "wrong"),
        ("unexplained", {"500": 1}, "unexplained"),
        ("counts", {"answered": 5, "counted": 4, "sent": 6}, "counts"),
        ("counts", {"answered": 5, "counted": 7, "sent": 6}, "counts"),
        ("connections", {"all": 20, "out": 1, "left": 0}, "out"),
        ("connections", {"all": 20, "out": 0, "left": 1}, "left"),
        ("exit", {"seconds": 15.0, "status": None}, "exit"),
        ("exit", {"seconds": 11.0, "status": 0}, "exit"),
        ("exit", {"seconds": 1.0, "status": 3}, "exit"),
    ],
)
def test_whatever_is_lost_is_missed(what: str, value: dict[str, Any], verdict: str) -> None:
    """What must be so and is not fails the run, and the table says which it is."""
    assert made_up().holds
    missed = replace(made_up(), **{what: value})  # type: ignore[arg-type]
    assert [name for name, met in missed.verdicts.items() if not met] == [verdict]
    assert not missed.holds
    assert [line[3] for line in lines(missed)].count("**missed**") == 1


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """`report` tells from the file what the run told."""
    made_up().write(tmp_path / "soak.json")
    assert Results.read(tmp_path / "soak.json") == made_up()


def test_a_fault_by_which_nothing_failed_has_no_last() -> None:
    """Only a fault that was felt has a moment at which it no longer was."""
    assert [line[2:] for line in fault_lines(made_up())[1:]] == [["0", ""], ["3", "1.5 s"]]


def test_the_tables_have_a_place_on_the_page() -> None:
    """docs/reliability.md has the markers of every table, and no others."""
    compared = Compared(about=made_up().about, found={"tenure": {"commits": "0 of 20"}})
    tables = {**told_of_soak(made_up()), **told_of_comparison(compared)}
    assert sorted(re.findall(r"<!-- end of (\w+) -->", page.PAGE.read_text())) == sorted(tables)


async def test_a_proxy_in_another_process_falls_silent_and_speaks(database: tuple[Path, EmbeddedPostgres]) -> None:
    """What is asked by way of it is answered when it speaks again, and not before."""
    with ProxyProcess(database[1].dsn()) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        await asyncio.to_thread(proxy.fall_silent)
        asking = asyncio.create_task(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done
        await asyncio.to_thread(proxy.speak)
        assert await asking == 1
        await connection.close()


@pytest.mark.timeout(180)  # a whole service that starts, on a machine that may be busy
def test_a_short_soak_runs_and_writes_nothing() -> None:
    """With one worker, for some seconds, all holds; what stands on the page is left alone."""
    stood = page.PAGE.read_text()
    command = "reliability soak --seconds 1 --seed 1 --workers 1 --rate 50"
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acknowledged writes lost" in done.stdout
    assert "Nothing is written" in done.stdout
    assert page.PAGE.read_text() == stood


def made_up() -> Results:
    """Make results up, of a service that has lost nothing."""
    memory = {"oldest": 100_000_000, "average": 90_000_000.0}
    where = {"system": "Linux", "cpu": "a processor", "cores": 2, "load": 0.0}
    about = {
        "date": "2026-01-01T00:00:00+00:00",
        "mode": "600 s",
        "machine": where,
        "python": "CPython 3.11",
        "versions": {"fastapi": "0.165.0"},
        "git": {"revision": "0" * 40, "modified": False},
    }
    silence = {"kind": "silence", "times": 1, "failed": 3, "longest_away": 1.5}
    return Results(
        about=about,
        seconds=600,
        seed=1,
        workers=4,
        requests={"GET /users": 100},
        longest={"all": 2.5, "outside": 0.1},
        explained={"503": 3},
        unexplained={},
        faults=[{"kind": "leave", "times": 2, "failed": 0, "longest_away": 0.0}, silence],
        writes={"acknowledged": 9, "lost": 0, "unacknowledged": 2, "found": 1},
        counts={"answered": 5, "counted": 5, "sent": 6},
        connections={"all": 20, "out": 0, "left": 0},
        memory={"quarter": memory, "end": memory},
        exit={"seconds": 0.5, "status": 0},
    )
