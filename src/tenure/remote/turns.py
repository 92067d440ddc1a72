"""Threads in which the sync methods of one object run: a bounded number, each call in the order in which it came."""

from __future__ import annotations

import asyncio
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Done = Callable[[Any, BaseException | None], None]


class Turn:
    """One call that waits for its turn, or has it."""

    __slots__ = ("_lock", "call", "done")

    def __init__(self, call: Callable[[], Any], done: Done) -> None:
        self.call = call
        self.done = done
        self._lock = Lock()

    def begin(self) -> bool:
        """Begin it, or tell that it was called off; whoever comes first."""
        return self._lock.acquire(blocking=False)

    def call_off(self) -> bool:
        """Call it off and let go of its arguments, which may be large; or tell that it has begun, or was called off."""
        if not self.begin():
            return False
        self.call = self.done = _nothing
        return True


def _nothing(*_: object) -> None:
    """Stand for a call that was called off."""


class Turns:
    """
    Runs calls in threads of its own, and tells the event loop in which it was made what they gave.

    Lighter than an executor: many that end together are told together.

    Args:
        threads: How many run at once.
        name: What the threads are called.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[Turn | None] = SimpleQueue()
        self._ended: list[tuple[Turn, Any, BaseException | None]] = []
        self._telling = Lock()
        self._threads = [Thread(target=self._run, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def take(self, call: Callable[[], Any], done: Done) -> Turn:
        """Run a call as soon as a thread is free; `done` gets what it gave or raised, in the event loop."""
        turn = Turn(call, done)
        self._waiting.put(turn)
        return turn

    async def taken(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 (any value)
        """Run a call as soon as a thread is free, and give what it gives; it never begins if cancelled before."""
        answer: asyncio.Future[Any] = self._loop.create_future()

        def done(value: Any, error: BaseException | None) -> None:  # noqa: ANN401 (any value)
            if not answer.done():
                answer.set_result(value) if error is None else answer.set_exception(error)

        turn = self.take(call, done)
        try:
            return await answer
        finally:
            turn.call_off()

    def close(self) -> None:
        """Let the threads end once what they run has."""
        for _ in self._threads:
            self._waiting.put(None)

    def _run(self) -> None:
        while (turn := self._waiting.get()) is not None:
            if turn.begin():
                try:
                    self._take(turn)
                except RuntimeError:  # the loop has ended, and nobody waits
                    return
            del turn  # while it waits for the next it is not to keep what this one had, such as a model

    def _take(self, turn: Turn) -> None:
        value: Any = None
        failure: BaseException | None = None
        try:
            value = turn.call()
        except StopIteration as error:  # which no future can hold
            failure = RuntimeError(f"the method raised {error!r}")
        except BaseException as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            failure = error
        with self._telling:
            is_first = not self._ended
            self._ended.append((turn, value, failure))
        if is_first:
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._telling:
            ended, self._ended = self._ended, []
        for turn, value, error in ended:
            try:
                turn.done(value, error)
            except Exception as failure:  # noqa: BLE001 (the others that ended with it are to be told)
                self._loop.call_exception_handler({"message": "a call's end could not be told", "exception": failure})
