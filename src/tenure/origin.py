"""The process and the event loop that something was started in, and the refusal of any other."""

from __future__ import annotations

import asyncio
import os

from tenure.errors import OtherLoop, OtherProcess

ONE_LOOP = "run the app and what calls it in one event loop; in tests, one loop for fixture and test"

FROM_A_THREAD = "call it in the app's event loop; from a thread, by `anyio.from_thread.run`"


class Origin:
    """Where what is made now belongs: to this process, and to an event loop, the one that runs unless given."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.process = os.getpid()
        self.loop = loop or asyncio.get_running_loop()

    @property
    def is_here(self) -> bool:
        """Whether this is that process and that event loop."""
        return self.process == os.getpid() and self.loop is running_loop()

    def refuse_other_process(self, name: str, noun: str = "") -> None:
        """
        Refuse a use of what is called so in another process; from any thread.

        Raises:
            OtherProcess: This is one.
        """
        if self.process != os.getpid():
            msg = f"{noun}`{name}` was started in process {self.process} and used in process {os.getpid()}"
            raise OtherProcess(msg, hint="let each process start the app itself, after the fork")

    def refuse_other_loop(self, name: str, noun: str = "", hint: str = ONE_LOOP) -> None:
        """
        Refuse a use of what is called so in another event loop, or outside of any.

        Raises:
            OtherLoop: This is one.
        """
        if self.loop is not running_loop():
            msg = f"{noun}`{name}` was started in one event loop and used in another"
            raise OtherLoop(msg, hint=hint)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that runs here, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
