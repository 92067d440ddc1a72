"""What is served when its grace is over: it is cancelled, and what does not end by that is named and left behind."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tenure.fastapi.serving import Tasks
from tenure.lifetimes import AFTER_CANCEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenure.fastapi.serving import Serving

logger = logging.getLogger("tenure")

ANSWER = 0.1
"""Seconds that a server gets to take the end of a response."""


async def cancel(served: Callable[[], list[Serving]], grace: float) -> set[asyncio.Task[Any]]:
    """
    Cancel what `served` gives, and give what has not ended after `AFTER_CANCEL` seconds.

    What is being cancelled already, as by a server with a limit of its own, is not disturbed in what it cleans up.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + AFTER_CANCEL
    while (left := served()) and loop.time() < until:
        # A task that had not come to the app yet is found in a later round.
        new = [each for each in left if not each.task.cancelling()]
        _tell(new, grace)
        for each in new:
            each.task.cancel("the app is shutting down")
        await asyncio.wait([each.task for each in left], timeout=until - loop.time())
    if left:
        tasks = Tasks()
        await asyncio.gather(*(_leave(each, tasks.stands_at(each.task)) for each in left))
    return {each.task for each in left}


def _tell(new: list[Serving], grace: float) -> None:
    if not new:
        return
    counts = Counter(each.label for each in new).most_common()
    told = ", ".join(f"{count} x {label}" for label, count in counts)
    logger.warning(
        "cancelled, as the app closes (grace: %g s): %s",
        grace,
        told,
        extra={"tenure_event": "requests-cancelled", "tenure_count": len(new)},
    )
    tasks = Tasks()
    for each in new:
        place = tasks.in_thread(each.task)
        if place:
            logger.warning(
                "%s runs in a thread, which cannot be cancelled, at %s",
                each.label,
                place,
                extra={"tenure_event": "request-in-thread", "tenure_route": each.label},
            )


async def _leave(each: Serving, place: str) -> None:
    logger.error(
        "%s did not end after it was cancelled, and was left behind at %s",
        each.label,
        place,
        extra={"tenure_event": "request-left-behind", "tenure_route": each.label},
    )
    asyncio._unregister_task(each.task)  # noqa: SLF001 (or the loop's end would wait for it)
    # Some servers wait for connections, whatever becomes of the tasks.
    messages: list[dict[str, Any]] = [
        {"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]},
        {"type": "http.response.body", "body": b""},
    ]
    if each.scope["type"] == "websocket":
        messages = [{"type": "websocket.close", "code": 1012}]
    for message in messages:
        with suppress(Exception):  # a response that had begun cannot begin anew, one that is cut short is an error
            async with asyncio.timeout(ANSWER):
                await each.send(message)
