"""The way to PostgreSQL, which can fall silent, in a process of its own: nothing that is measured shares its loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Self

from tests.pools.proxy import Proxy

from reliability.servers import PROJECT

WORDS = ("fall_silent", "speak", "forget")


class ProxyProcess:
    """
    A proxy in another process.

    Attributes:
        dsn: The address of PostgreSQL by way of it.
    """

    def __init__(self, dsn: str) -> None:
        self._target = dsn

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 (a command of our own)
            [sys.executable, "-m", "reliability.proxying", self._target],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.dsn = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # it ends with its input

    def fall_silent(self) -> None:
        """Keep what arrives from now on, in both directions, and close nothing."""
        self._tell("fall_silent")

    def speak(self) -> None:
        """Forward again, first what was kept."""
        self._tell("speak")

    def forget(self) -> None:
        """Forward nothing any more of the connections that there are, and close none; new ones are served."""
        self._tell("forget")

    def _tell(self, word: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        return "" if self._process.stdout is None else self._process.stdout.readline().strip()


async def serve(dsn: str) -> None:
    """Forward, and do what is read from standard input, until that ends."""
    async with Proxy(dsn) as proxy:
        print(proxy.dsn, flush=True)  # noqa: T201 (this is how the other process learns it)
        while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if word in WORDS:
                getattr(proxy, word)()
            print(word, flush=True)  # noqa: T201 (likewise)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
