"""The comparison finds what is so: a difference where there is one, by the same script for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from reliability.compare.measures import MEASURES
from reliability.compare.run import Results, tables_of
from reliability.compare.subject import OURS, TEMPLATE, WRITTEN, Contender, serving, within

if TYPE_CHECKING:
    from pathlib import Path

    from tenure.host.postgres import EmbeddedPostgres

BY_ID = {measure.id: measure for measure in MEASURES}


@pytest.mark.parametrize(
    ("contender", "falsely"),
    [
        pytest.param(WRITTEN, "20 of 20", id="commits when the answer has left"),
        pytest.param(TEMPLATE, "0 of 20", id="commits in the handler"),
        pytest.param(OURS, "0 of 20", id="commits before the answer"),
    ],
)
async def test_each_does_the_work_and_is_told_from_the_others(
    contender: Contender, falsely: str, database: tuple[Path, EmbeddedPostgres]
) -> None:
    """Undisturbed, all answer the same, on a pool of five that is idle afterwards; when a commit fails, they differ."""
    async with serving(contender, *database) as subject:
        assert (await subject.client.post("/rows/7")).status_code == 201
        paths = ("/probe", "/query", "/plain", "/nested")
        assert [(await subject.client.get(path)).json() for path in paths] == [1] * len(paths)

        async def is_there() -> bool:
            return (await subject.client.get("/rows/7")).json() is True

        async def are_idle() -> bool:
            return await subject.active() == 0

        assert await within(is_there, 10) is not None
        assert (await subject.client.get("/rows/8")).json() is False
        assert await within(are_idle, 10) is not None
        assert await BY_ID["commits"].find(subject) == falsely


async def test_what_does_not_exit_in_time_is_killed(database: tuple[Path, EmbeddedPostgres]) -> None:
    """A server that waits for its stream has no exit status, is gone all the same, and has closed nothing."""
    async with serving(WRITTEN, *database) as subject:
        reader, writer = await subject.send("/stream")
        await reader.readuntil(b"tick")
        ended = await asyncio.to_thread(subject.server.stop, 0.5)
        writer.close()
        assert ended.status is None
        assert subject.server.workers() == []
        assert "all is closed" not in subject.server.log.read_text()


def test_a_table_has_a_row_for_each_fault() -> None:
    """A fault that was not made has an empty cell; what is ours is bold."""
    told = tables_of(Results(found={"by hand": {"commits": "20 of 20"}, OURS.name: {"commits": "0 of 20"}}))["compared"]
    assert len(told.splitlines()) == 2 + len(MEASURES)
    assert "| by hand | **tenure** |" in told
    assert told.count("**0 of 20**") == 1
    assert "****" not in told
