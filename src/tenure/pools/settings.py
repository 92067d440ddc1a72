"""What a pool of connections to a server is like, and how many each of several workers has."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from fastapi import Depends

from tenure.errors import DeclarationError
from tenure.pools.errors import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_SIZE = 10


class Knobs(TypedDict, total=False):
    """The fields of `PoolSettings` but the address, as keyword arguments."""

    max_size: int | None
    max_connections: int | None
    workers: int | None
    min_size: int
    acquire_timeout: float
    command_timeout: float
    release_timeout: float
    check_after: float
    leak_after: float
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """
    What a pool is like. All times are in seconds.

    Attributes:
        dsn: The server's address, such as ``postgresql://user:password@host:port/database``.
        max_size: Most connections at once of one worker; 10, or its share of `max_connections`, unless given.
        max_connections: Most connections at once of all workers of this machine.
        workers: How many workers that are; what the environment variable `WEB_CONCURRENCY` says unless given.
        min_size: Connections that are opened at the start, and kept.
        acquire_timeout: How long a borrower waits for a connection, a new one's opening included.
        command_timeout: How long a statement may take that does not say otherwise.
        release_timeout: How long it may take to roll back and reset a connection, before it is ended.
        check_after: How long a connection may have been idle before it is checked when it is borrowed.
        leak_after: How long a connection may be out before that is logged, once, with the stack that borrowed it.
        options: What else the driver takes, such as ``{"ssl": "require"}`` of `asyncpg.create_pool`.
    """

    dsn: str = field(repr=False)
    max_size: int | None = None
    max_connections: int | None = None
    workers: int | None = None
    min_size: int = 1
    acquire_timeout: float = 5.0
    command_timeout: float = 30.0
    release_timeout: float = 2.0
    check_after: float = 30.0
    leak_after: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def sharers(self) -> int:
        """How many workers share `max_connections`."""
        if self.workers is not None:
            return self.workers
        said = os.environ.get("WEB_CONCURRENCY", "")
        return int(said) if said.isdigit() and int(said) > 0 else 1

    def size(self) -> int:
        """
        Say how many connections one worker may have.

        Raises:
            BudgetExceeded: There are fewer connections than workers.
            DeclarationError: A number is not above 0.
        """
        sizes = {"max_size": self.max_size, "max_connections": self.max_connections, "workers": self.workers}
        for name, value in {**sizes, "acquire_timeout": self.acquire_timeout}.items():
            if value is not None and value <= 0:
                msg = f"a pool has {name}={value}, which must be above 0"
                raise DeclarationError(msg)
        if self.max_connections is None:
            return self.max_size or USUAL_SIZE
        share = self.max_connections // self.sharers
        if share == 0:
            msg = f"{self.max_connections} connections do not suffice for {self.sharers} workers"
            raise BudgetExceeded(msg, hint="allow more connections, or run fewer workers")
        return min(share, self.max_size or share)


def dependency(source: Any) -> Any:  # noqa: ANN401 (an address, settings or what gives them)
    """Give what FastAPI solves for where a pool leads: what is a dependency already, or the value itself."""
    return Depends(source if callable(source) else lambda: source)


def plain(address: Any) -> Any:  # noqa: ANN401 (what a program gives)
    """Give an address that may be kept as a secret of Pydantic's."""
    return address.get_secret_value() if hasattr(address, "get_secret_value") else address
