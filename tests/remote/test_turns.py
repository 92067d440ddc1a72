"""The threads of an object keep nothing of calls that were called off, or have ended."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from weakref import ref

import pytest

from tenure.remote.turns import Turns
from tests.waiting import until

PATIENCE = 20


class Large:
    """Something that it matters to let go of."""


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    """Give one thread that takes turns."""
    turns = Turns(1, "tested")
    yield turns
    turns.close()


async def test_what_was_called_off_is_let_go_of_at_once(turns: Turns) -> None:
    """Its arguments are gone, although the thread is busy, and it would not have come to it for long."""
    go = threading.Event()
    busy = asyncio.create_task(turns.taken(partial(go.wait, PATIENCE)))
    await asyncio.sleep(0)
    large = Large()
    kept = ref(large)
    waiting = turns.take(partial(id, large), lambda *_: None)
    del large
    assert waiting.call_off()
    gc.collect()
    assert kept() is None
    go.set()
    assert await busy


async def test_an_idle_thread_keeps_nothing(turns: Turns) -> None:
    """Neither the call nor what it gave, while nothing else is to be run."""
    given, large = Large(), Large()
    kept = [ref(given), ref(large)]

    def call(_: Large, give: list[Large]) -> Large:
        return give.pop()

    held = [given]
    del given
    await turns.taken(partial(call, large, held))
    del large
    await until(lambda: not gc.collect() and [each() for each in kept] == [None, None])


async def test_an_end_that_cannot_be_told_keeps_no_other_from_being(turns: Turns) -> None:
    """Where calls end together, each is told of its own, and the event loop of what went wrong."""
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    ended: list[str] = []
    gone = threading.Event()

    def fail(*_: object) -> None:
        raise KeyError

    turns.take(lambda: "first", fail)
    turns.take(lambda: "second", lambda value, _: ended.append(value))
    turns.take(gone.set, lambda *_: ended.append("third"))
    gone.wait(PATIENCE)  # in the loop's own thread, so that all have ended when it looks
    await until(lambda: ended == ["second", "third"])
    assert isinstance(wrong[0]["exception"], KeyError)
