"""Work that is finished although its caller is cancelled, and what may cancel it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CancelScope

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
    backend = sys.modules.get("anyio._backends._asyncio")  # loaded by the first scope
    if backend is None:
        return False
    try:
        state = backend._task_states.get(asyncio.current_task())  # noqa: SLF001 (there is no other way to ask)
    except (AttributeError, TypeError):  # an anyio that keeps them elsewhere, or no task
        return True
    return state is not None and state.cancel_scope is not None


def is_shielded(task: asyncio.Task[Any], outermost: CancelScope) -> bool:
    """Tell whether `outermost`, or a scope within it, shields what a task runs; where that cannot be told, it is so."""
    try:
        scope = sys.modules["anyio._backends._asyncio"]._task_states[task].cancel_scope  # noqa: SLF001 (as above)
        while scope is not outermost and not scope.shield:
            scope = scope._parent_scope  # noqa: SLF001 (as above)
        return bool(scope.shield)
    except (AttributeError, KeyError, TypeError):
        return True
