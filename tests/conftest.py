"""What all tests share: no blocking call in an event loop, one kind of loop, reproducible examples."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx
from coverage import Coverage
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session", autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail on a call that blocks an event loop, wherever our code is on the stack."""
    ours = [package for package in ("tenure", "roster") if find_spec(package)]
    with blockbuster_ctx(scanned_modules=ours) as guard:
        for function in guard.functions.values():
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")  # reads the password file
            function.can_block_in("redis/utils.py", "get_lib_version")  # asks the installed package
            function.can_block_in("remote/server.py", "listening")  # in its own process nothing else runs then
            # What measures is no part of what is measured.
            function.can_block_in("coverage/collector.py", "lock_data")
            function.can_block_in("coverage/control.py", "_should_trace")
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests in asyncio, the one that servers use."""
    return "asyncio"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Save what was covered before this process exits: once Ray is loaded, that may be all of a sudden."""
    measuring = Coverage.current()
    if measuring is not None:
        measuring.save()
