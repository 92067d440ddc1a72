"""A start that breaks at any step leaves no connection open, as PostgreSQL itself counts them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import asyncpg
import pytest
from fastapi import Depends

from tenure import Resource, running, scoped
from tenure.errors import CloseFailed, StartFailed
from tests.faults.conftest import connections, connections_end

STEPS = 5
How = Literal["fail", "cancel", "time out"]


def pools(dsn: str, name: str, k: int, how: How, stuck: asyncio.Event) -> list[Resource[Any]]:
    """Make five pools of two connections, each needing the one before; the one at step `k` opens, then breaks."""
    made: list[Resource[Any]] = []

    def add(step: int) -> None:
        before = made[-1] if made else scoped("app", name="settings")(lambda: dsn)

        async def open_pool(_before: Annotated[object, Depends(before)]) -> AsyncIterator[asyncpg.Pool]:
            async with asyncpg.create_pool(
                dsn, min_size=2, max_size=2, server_settings={"application_name": name}
            ) as pool:
                if step == k:
                    if how == "fail":
                        msg = "model file missing"
                        raise RuntimeError(msg)
                    stuck.set()
                    await asyncio.Event().wait()
                yield pool

        timeout = 0.2 if step == k and how == "time out" else 30
        made.append(scoped("app", name=f"pool{step}", start_timeout=timeout)(open_pool))

    for step in range(STEPS):
        add(step)
    return made


@pytest.mark.parametrize("k", range(STEPS))
@pytest.mark.parametrize("how", ["fail", "cancel", "time out"])
async def test_no_connection_is_left(dsn: str, how: How, k: int) -> None:
    """Whatever happens at step k, all connections are closed and the error names k."""
    name, stuck = f"half-{how}-{k}", asyncio.Event()

    async def start() -> None:
        async with running(also=pools(dsn, name, k, how, stuck)):
            pytest.fail("it started")

    task = asyncio.create_task(start())
    if how == "cancel":
        await stuck.wait()
        assert await connections(dsn, name) == 2 * (k + 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with pytest.raises(StartFailed, match=f"`pool{k}` did not start"):
            await task
    assert await connections_end(dsn, name)


async def test_no_connection_is_left_after_closes_that_fail(dsn: str) -> None:
    """When one close raises and one hangs, the pools between them are closed all the same."""
    name = "close-rows"
    good = pools(dsn, name, k=-1, how="fail", stuck=asyncio.Event())

    @scoped("app")
    async def raises(_pool: Annotated[asyncpg.Pool, Depends(good[-1])]) -> AsyncIterator[None]:
        yield
        msg = "socket is gone"
        raise OSError(msg)

    @scoped("app", close_timeout=0.1)
    async def hangs(_pool: Annotated[asyncpg.Pool, Depends(good[2])]) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    with pytest.raises(CloseFailed) as caught:
        async with running(also=[raises, hangs]):
            assert await connections(dsn, name) == 2 * STEPS
    assert sorted(error.message.split("`")[1] for error in caught.value.exceptions) == ["hangs", "raises"]
    assert await connections_end(dsn, name)
