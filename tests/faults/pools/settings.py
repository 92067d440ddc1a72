"""What a test tells the app that it serves, by the environment, and what the app tells the test."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from tenure.pools.settings import PoolSettings

Ask: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a statement, with values for ``$1`` and so on, and gives the first value of its first row."""
SIZE = 5


def application_name() -> str:
    """Give what PostgreSQL calls the connections of this process."""
    return f"{os.environ['NAME']} {os.getpid()}"


def given(options: Mapping[str, Any]) -> PoolSettings:
    """Give the settings of a pool of five, but for what the environment says."""
    knobs = {"max_size": SIZE, "min_size": SIZE, **json.loads(os.environ["KNOBS"])}
    return PoolSettings(dsn=os.environ["DSN"], options=options, **knobs)


def say(line: str) -> None:
    """Tell the test, with who says it, in one write, as several processes have this output."""
    os.write(1, f"{os.getpid()} {line}\n".encode())
