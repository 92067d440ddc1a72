"""A worker that maps an array which one of them makes: tells what it sees, and ends with its standard input."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from tenure import SharedArray, running, scoped

SIZE = int(os.environ.get("ARRAY_BYTES", "8000000"))


def _fill(memory: np.ndarray) -> None:
    memory[:] = np.arange(memory.size, dtype=memory.dtype) % 251


@scoped("host")
def vectors() -> SharedArray:
    """Make it, and note by whom."""
    with Path(os.environ["XDG_RUNTIME_DIR"], "made").open("a") as notes:
        notes.write(f"{os.getpid()}\n")
    return SharedArray.filled((SIZE // 8, 8), np.uint8, lambda memory: _fill(memory.reshape(-1)))


@scoped("host")
async def weights() -> AsyncIterator[SharedArray]:
    """Make another in a generator, by copying."""
    yield SharedArray(np.linspace(0, 1, 11))


def memory() -> int:
    """Give the bytes of this process, each page divided among those that share it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


async def main() -> None:
    """Start, tell, and wait."""
    async with running(also=[vectors, weights]) as scope:
        shared, others = (await scope.get(vectors)).array, (await scope.get(weights)).array
        try:
            shared[0, 0] = 1
        except ValueError:
            is_read_only = True
        else:
            is_read_only = False
        print(json.dumps({"sum": int(shared.sum()), "weights": others.tolist(), "read_only": is_read_only}), flush=True)
        while (await asyncio.to_thread(sys.stdin.readline)).strip() == "memory":
            int(shared.sum())
            print(memory(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
