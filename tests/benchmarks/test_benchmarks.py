"""What is measured is the same work, and what is said of it was found; peers are verified by `make bench` itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI

from benchmarks import picture, tables, works
from benchmarks.cases import Case, cases_of
from benchmarks.contenders import BASELINE, FASTAPI, TENURE, Contender, contenders
from benchmarks.latency import ratios
from benchmarks.memory import cyclic
from benchmarks.results import Amount, Ratio, Results
from benchmarks.rounds import Effort
from benchmarks.verification import NotTheWork, verify
from benchmarks.works import PATH, Moment

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = contenders(others=False)
CASES = [case for work in works.WORKS for case in cases_of(work, NATIVE)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.work.id}-{case.name}")
async def test_a_case_does_the_work(case: Case) -> None:
    """Each answers the same, makes each object once, and closes its session when it says it does."""
    await verify(case)


@pytest.mark.parametrize("work", works.WORKS, ids=lambda work: work.id)
def test_tenure_and_its_reference_do_every_work(work: works.Work) -> None:
    """No ratio is left out: tenure takes part in each work, and so does what it is held against."""
    names = {case.name for case in cases_of(work, NATIVE)}
    against = {case.against for case in cases_of(work, NATIVE)} - {None}
    assert {TENURE, *against} <= names


@pytest.mark.parametrize("work", [works.FUNCTION, works.REQUEST, works.SHARED], ids=lambda work: work.id)
def test_tenure_closes_when_the_work_wants(work: works.Work) -> None:
    """What closes when is the same for FastAPI, for tenure, and for tenure without binding."""
    ours = [each for each in NATIVE if each.name in {FASTAPI, TENURE, f"{TENURE}, binding off"}]
    assert [each.entries[work].closes for each in ours] == [work.closes] * 3


async def test_closing_at_another_moment_is_refused() -> None:
    """A contender that says it closes after the answer, and closes before, is not timed."""
    baseline = named(BASELINE)
    false = Contender("false", packages=())
    false.does(works.REQUEST, baseline.entries[works.REQUEST].build, closes=Moment.ANSWERED)
    with pytest.raises(NotTheWork, match=r"closes .*when the handler returns"):
        await verify(Case(works.REQUEST, false))


async def test_another_answer_is_refused() -> None:
    """A contender that does something else is not timed."""
    false = Contender("false", packages=())
    false.does(works.FIVE, named(BASELINE).entries[works.ONE].build)
    with pytest.raises(NotTheWork, match="answers"):
        await verify(Case(works.FIVE, false))


async def test_rounds_give_a_ratio_to_the_baseline() -> None:
    """Every case has a mean for each round and, but for the baseline, a ratio for each; only tenure's has a bar."""
    told: list[str] = []
    rows = await ratios([works.ONE], NATIVE, Effort(rounds=3, seconds=0.0005), told.append)
    assert told == [works.ONE.title] * 3
    assert [row.contender for row in rows] == [case.name for case in cases_of(works.ONE, NATIVE)]
    assert {row.rounds for row in rows} == {3}
    assert [row.contender for row in rows if not row.against] == [BASELINE]
    assert [row.contender for row in rows if row.bar is not None] == [TENURE]
    assert all(row.low <= row.ratio <= row.high for row in rows)


async def test_where_fastapi_is_the_bar() -> None:
    """A work without a bar of its own holds tenure to FastAPI's ratio in the same rounds."""
    rows = {row.contender: row for row in await ratios([works.SHARED], NATIVE, Effort(3, 0.0005), lambda _: None)}
    assert rows[TENURE].bar == rows[FASTAPI].ratio


async def test_garbage_is_seen() -> None:
    """An app that leaves a cycle behind with each request is found out, and one that does not is not."""
    leaking = Contender("leaking", packages=())
    leaking.does(works.ONE, leaky)
    assert await cyclic(Case(works.ONE, leaking)) >= 1
    assert await cyclic(Case(works.ONE, named(TENURE))) == 0


def leaky() -> FastAPI:
    """Make an app whose handler leaves a list that has itself."""
    app = FastAPI()

    @app.get(PATH)
    async def handler():  # noqa: ANN202 (a response model would be more work)
        left: list[object] = []
        left.append(left)
        return {"ok": "1"}

    return app


def test_a_bar_is_missed_beyond_the_spread() -> None:
    """A ratio above its bar counts if its quartiles are nearer to one another than it is to the bar."""
    row = ratio_of(TENURE, 1.05, bar=1.02)
    assert not replace(row, low=1.03, high=1.07).missed_beyond_spread
    assert replace(row, low=1.04, high=1.06).missed_beyond_spread
    assert not replace(row, bar=None).missed_beyond_spread


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """`report` draws from the file what the run drew."""
    results = made_up()
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


def test_the_tables_have_a_place_on_the_page() -> None:
    """docs/benchmarks.md has the markers of every table."""
    names = re.findall(r"<!-- end of (\w+) -->", tables.PAGE.read_text())
    assert set(names) >= {*tables.tables_of(made_up()), "profile"}


def test_a_table_is_written_between_its_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing twice leaves one table, and the text around it as it was; a page without markers is refused."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bars: written by a run -->\n<!-- end of bars -->\nafter\n")
    monkeypatch.setattr(tables, "PAGE", page)
    tables.write({"bars": "first"})
    tables.write({"bars": "second"})
    assert page.read_text() == "before\n<!-- bars: written by a run -->\n\nsecond\n\n<!-- end of bars -->\nafter\n"
    with pytest.raises(tables.NoMarker, match="machine"):
        tables.write({"machine": "here"})


def test_the_table_marks_what_closes_at_another_moment() -> None:
    """A ratio that was had by closing early is marked, and tenure's is bold."""
    table = tables.libraries(made_up())
    assert "| early | 1.50 ± 0.02 |  | 1.50 ± 0.02 † |" in table
    assert "| **tenure** | **0.90 ± 0.02** |" in table


@pytest.mark.parametrize("theme", [picture.LIGHT, picture.DARK], ids=lambda theme: theme.name)
def test_the_picture_shows_every_library(theme: picture.Theme) -> None:
    """It is well-formed, has a bar for each, and the number beside it."""
    drawn = ET.fromstring(picture.picture(made_up(), theme))  # noqa: S314 (made here)
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("early") == 2
    assert texts.count("1.50") == 1
    assert texts.count("1.50 †") == 1
    assert BASELINE not in texts


def named(name: str) -> Contender:
    """Give a contender of those that need no other library."""
    return next(each for each in NATIVE if each.name == name)


def ratio_of(contender: str, ratio: float, *, work: works.Work = works.ONE, bar: float | None = None) -> Ratio:
    """Make a row up."""
    return Ratio(
        work=work.id,
        title=work.title,
        contender=contender,
        microseconds=40,
        ratio=ratio,
        low=ratio - 0.02,
        high=ratio + 0.02,
        rounds=3,
        against=BASELINE,
        bar=bar,
        met=None if bar is None else ratio <= bar,
    )


def made_up() -> Results:
    """Make results up."""
    early = replace(ratio_of("early", 1.5, work=works.FUNCTION), closes=Moment.HANDLER.value, closes_right=False)
    where = {"system": "Linux", "cpu": "a processor", "cores": 2, "load": 0.0}
    return Results(
        about={
            "date": "2026-01-01T00:00:00+00:00",
            "mode": "default",
            "machine": where,
            "python": "CPython 3.11",
            "versions": {"fastapi": "0.165.0"},
            "git": {"revision": "0" * 40, "modified": False},
        },
        ratios=[ratio_of(BASELINE, 1), ratio_of(TENURE, 0.9, bar=1.02), ratio_of("early", 1.5), early],
        amounts=[Amount("garbage", "cyclic garbage", TENURE, 0, "objects", bar=0, note="0 / 0 / 0 / 0")],
        served=[{"work": "/stats", "contender": "roster", "requests_per_second": 3000.0, "ratio": 2.1, "bar": 2.0}],
        state=[ratio_of(TENURE, 0.5)],
    )
