"""What a handle promises wherever its object lives, for the tests of each place."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tenure.remote import CallTimeout, OwnerDied
from tests.remote.things import Thing
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tenure.remote import Remote


async def a_stream_that_says_nothing_more_is_given_up(handle: Remote[Thing], place: Path) -> None:
    """What came before is there; then it raises in time, and the generator is closed."""
    seen: list[int] = []
    with pytest.raises(CallTimeout):  # noqa: PT012 (it is to come in the iteration)
        async for number in handle.within(0.5)(Thing.stuck):
            seen.append(number)  # noqa: PERF401 (what came before counts)
    assert seen == [1]
    await until((place / "stuck ended").exists)


async def calls_under_way_hear_of_a_death(handle: Remote[Thing], place: Path) -> None:
    """An idempotent call under way is answered by the new object, any other raises, and the next one waits."""
    owner = await handle(Thing.process)
    waiting = asyncio.create_task(handle(Thing.wait, "one"))
    again = asyncio.create_task(handle(Thing.patiently, "go"))
    for name in ("one began", "go began"):
        await until((place / name).exists)
    (place / "opened").unlink(missing_ok=True)

    os.kill(owner, signal.SIGKILL)

    with pytest.raises(OwnerDied):
        await waiting
    after = await handle(Thing.process)
    (place / "go").touch()
    assert await again == after != owner
    assert (place / "opened").read_text().split() == [str(after)], "what it takes was made anew"
