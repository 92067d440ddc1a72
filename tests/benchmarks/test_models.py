"""All that serve the model find the same, nothing of them is left, and what is told of a run was found."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.elsewhere import picture, tables
from benchmarks.elsewhere.results import Call, Results, bars
from benchmarks.models.load import Times, Wrk, percentile
from benchmarks.models.measuring import folder, verify
from benchmarks.models.results import DIRECT, POOLED, Memory, Speed
from benchmarks.models.servers import DIRECT as CALLED_DIRECTLY
from benchmarks.models.servers import POOLED as CALLED_IN_THREADS
from benchmarks.models.servers import Running, with_tenure
from benchmarks.picture import DARK, LIGHT, Theme
from benchmarks.results import Amount
from benchmarks.served.load import CannotMeasure
from benchmarks.tables import PAGE

APP, HOST = "tenure, `app` scope", "tenure, `host` scope"


def test_all_find_the_same() -> None:
    """Called in the event loop, in threads, in this process or in another one, alone or together: the same three."""
    with folder() as where:
        verify([CALLED_DIRECTLY, CALLED_IN_THREADS, with_tenure("app"), with_tenure("host", 2)], where)


def test_who_finds_something_else_is_refused() -> None:
    """A program whose nearest are in another order is not timed."""
    false = replace(CALLED_DIRECTLY, name="false", answer=lambda found: found[::-1])
    with folder() as where, pytest.raises(CannotMeasure, match="false does not find what called in"):
        verify([CALLED_DIRECTLY, false], where)


def test_all_processes_are_weighed_and_ended() -> None:
    """Of two workers at host scope, the parent, both workers, the keeper and the model count; none is left."""
    with folder() as where, with_tenure("host", 2).serve(where) as running:
        commands = [Path("/proc", str(each), "cmdline").read_text() for each in running.processes()]
        whole = running.memory()
    expected = {"-m\0uvicorn": 1, "multiprocessing.spawn": 2, "-m\0tenure.host.keeper": 1, "-m\0tenure.owner": 1}
    assert {part: sum(part in command for command in commands) for part in expected} == expected
    assert whole > 100
    assert running.processes() == []


def test_what_does_not_start_is_told_with_its_log() -> None:
    """A program that ends at once is no number, but an error with what it said."""
    broken = replace(CALLED_DIRECTLY, command=lambda _: [sys.executable, "-c", "raise SystemExit('no such luck')"])
    with folder() as where, pytest.raises(CannotMeasure, match="no such luck"), broken.serve(where):
        raise AssertionError


def test_times_are_those_that_wrk_tells(tmp_path: Path) -> None:
    """Who asked for the model and who asked for something else are told apart; requests that failed are an error."""
    wrk = Wrk(str(tmp_path / "wrk"), tmp_path)
    running: Running = Running(CALLED_DIRECTLY, None, "http://127.0.0.1:1", "")  # type: ignore[arg-type] # not asked
    told = '{"requests": 4, "microseconds": 2000000, "failed": %s, "refused": 0, "times": [[1000, 3], [9000, 1]]}'
    script = "#!/bin/sh\necho Running\nif [ -n \"$PAUSE\" ]; then echo '{}'; else echo '{}'; fi\n"
    Path(wrk.program).write_text(script.format(told % 0, (told % 0).replace("4", "40")))
    Path(wrk.program).chmod(0o700)
    asked, pings = wrk.press(running, callers=1, seconds=1)
    assert (asked.per_second, pings.per_second) == (20, 2)
    Path(wrk.program).write_text(script.format(told % 0, told % 1))
    with pytest.raises(CannotMeasure, match="0 were refused and 1 not answered"):
        wrk.press(running, callers=1, seconds=1)


@pytest.mark.parametrize(("part", "milliseconds"), [(0.5, 1), (0.75, 1), (0.76, 2), (0.99, 9), (1, 9)])
def test_a_percentile_is_over_all_rounds(part: float, milliseconds: float) -> None:
    """Of four answers in two rounds, three within a millisecond, and of ten the last."""
    rounds = [Times(9, 1, ((1000, 9), (9000, 2))), Times(9, 1, ((1000, 6), (2000, 3)))]
    assert percentile(rounds, part) == milliseconds


def test_bars_are_those_of_tenure() -> None:
    """A lone caller is held against a direct call, many against `def`, calls against the best of the others."""
    found = {(row.id, row.title): row for row in made_up().bars}
    assert len(found) == 10
    assert [(row.value, row.bar, row.met) for (word, _), row in found.items() if word == "lone"] == [
        (0, 0.3, True),
        (0.4, 0.3, False),
    ]
    assert [row.met for (word, _), row in found.items() if word == "more"] == [True, False]
    assert [row.met for (word, _), row in found.items() if word == "ping"] == [True, False]
    assert found["worker", "each further worker, `host` scope"].value == 40
    assert found["trip", "a round trip of 4 KB"].value == 0.8
    assert found["trip", "a round trip of 4 KB"].unit == "times that of other"
    assert found["trips", "calls in a second, 32 callers"].met is True


def test_tables_say_all(tmp_path: Path) -> None:
    """Each program has a line with its callers, tenure's in bold; what is written is read to the same tables."""
    found = made_up()
    found.write(tmp_path / "results.json")
    told = tables.tables_of(Results.read(tmp_path / "results.json"))
    assert told == tables.tables_of(found)
    assert f"| {POOLED} | 300/s · 4.0 / 8.0 · 2.0 | 300/s · 4.0 / 8.0 · none | 1.00 |" in told["models"]
    assert f"| **{APP}** | **300/s · 4.0 / 8.0 · 2.0** | **480/s · 4.0 / 8.0 · 2.0** | **1.60** |" in told["models"]
    assert (
        "| `host` scope | 1 | 3 | 300 MB |  |\n|  | 2 | 6 | 370 MB | 70 MB |\n|  | 4 | 8 | 450 MB | 40 MB |"
        in (told["models-memory"])
    )
    assert "| **tenure** | **80.0 µs** | **200.0 µs** | **20,000/s** |  |" in told["calls"]
    assert (
        "| requests with 64 callers, tenure, `app` scope | **1.6** times those of `def` | ≥ 1.5 | met |  |"
        in (told["elsewhere"])
    )


def test_the_tables_have_a_place_on_the_page() -> None:
    """docs/benchmarks.md has the markers of every table."""
    names = re.findall(r"<!-- end of ([\w-]+) -->", PAGE.read_text())
    assert set(names) >= set(tables.tables_of(made_up()))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_the_picture_shows_every_program(theme: Theme) -> None:
    """It is well-formed, and has each program twice: how much it answers, and how long another route takes."""
    drawn = ET.fromstring(picture.picture(made_up(), theme))  # noqa: S314 (made here)
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for name in (DIRECT, POOLED, APP, HOST):
        assert texts.count(name.replace("`", "")) == 2
    assert "480" in texts


def speed_of(server: str, callers: int, *, ratio: float = 1, beyond: float = 0, ping: float | None = 2) -> Speed:
    """Make a row up."""
    return Speed(server, callers, 300 * ratio, 4, 8, 1, ping, ratio=ratio, beyond=beyond, rounds=3)


def made_up() -> Results:
    """Make results up."""
    speed = [
        *(speed_of(DIRECT, callers, ping=9) for callers in (1, 64)),
        *(speed_of(POOLED, callers, ping=None if callers == 64 else 2) for callers in (1, 64)),
        speed_of(APP, 1),
        speed_of(APP, 64, ratio=1.6),
        speed_of(HOST, 1, beyond=0.4),
        speed_of(HOST, 64, ratio=1.4, ping=16),
    ]
    memory = [Memory(APP, 1, 1, 280), Memory(HOST, 1, 3, 300)]
    memory += [Memory(f"{HOST}, {workers} workers", workers, 4 + workers, 290 + 40 * workers) for workers in (2, 4)]
    calls = [
        Call("tenure", 80, 200, 20_000, blocks=False, note=""),
        Call("other", 100, 300, 10_000, blocks=False, note=""),
        Call("blocking", 30, 100, 30_000, blocks=True, note="blocks"),
    ]
    recovery = [
        Amount("recovery", "until it answers", "tenure", 500, "ms", bar=1000),
        Amount("step", "one", "tenure", 5, "ms"),
    ]
    about = {
        "date": "2026-01-01T00:00:00+00:00",
        "mode": "default",
        "machine": {"system": "Linux", "cpu": "a processor", "cores": 2, "load": 0.0},
        "python": "CPython 3.11",
        "versions": {"fastapi": "0.165.0"},
        "git": {"revision": "0" * 40, "modified": False},
    }
    return Results(about, speed, memory, calls, recovery, bars(speed, memory, calls, recovery))
