"""Work that is finished although its caller is cancelled, and what may cancel it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CancelScope

try:
    from anyio._backends._asyncio import _task_states
except ImportError:  # an anyio that keeps them elsewhere
    _task_states = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Finish some work although the caller is cancelled, even again and again; only then let the cancellation on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not report it as forgotten
        raise cancelled
    return task.result()


def in_cancel_scope() -> bool:
    """Tell whether a cancel scope of anyio's is around what runs now; where that cannot be told, it is so."""
    task = asyncio.current_task()
    if _task_states is None or task is None:
        return True
    state = _task_states.get(task)
    return state is not None and state.cancel_scope is not None
