"""How a pool is doing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolStats:
    """
    A pool at one moment.

    Attributes:
        size: Most connections at once.
        open: Connections that there are.
        in_use: Those that are out.
        waiting: Borrowers that wait for one.
        refused: Borrowers so far that were told that none was free.
        killed: Connections so far that had to be ended, as they could not be given back in time.
        leaked: Connections so far that were out for longer than `leak_after`.
    """

    size: int
    open: int
    in_use: int
    waiting: int
    refused: int
    killed: int
    leaked: int
