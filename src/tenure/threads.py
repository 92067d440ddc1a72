"""Where sync factories run: in anyio's worker threads, or in a thread that the end of the process does not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from tenure.cancellation import uninterrupted

T = TypeVar("T")

RunSync: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a sync function off the event loop, to its end even when the caller is cancelled meanwhile."""


async def in_worker(function: Callable[[], T]) -> T:
    """Run in one of anyio's worker threads, within its budget of 40 unless changed."""
    return await uninterrupted(anyio.to_thread.run_sync(function))


async def in_spare_worker(function: Callable[[], T]) -> T:
    """Run in a worker thread outside of the budget: what gives a place back must never wait for one."""
    return await uninterrupted(anyio.to_thread.run_sync(function, limiter=CapacityLimiter(1)))


async def in_own_thread(function: Callable[[], T]) -> T:
    """Run in a new daemon thread: one that hangs for ever holds up nothing but itself."""
    result: Future[T] = Future()
    Thread(target=copy_context().run, args=(_work, function, result), daemon=True, name="tenure").start()
    return await uninterrupted(_awaited(result))


async def _awaited(result: Future[T]) -> T:
    return await asyncio.wrap_future(result)


def _work(function: Callable[[], T], result: Future[T]) -> None:
    try:
        result.set_result(function())
    except StopIteration as error:  # which no future of asyncio's can hold
        stopped = RuntimeError(f"it raised {error!r}")
        stopped.__cause__ = error
        result.set_exception(stopped)
    except BaseException as error:  # noqa: BLE001 (whatever it is belongs to the caller)
        result.set_exception(error)
