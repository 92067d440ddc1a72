"""What the tests of the documentation share: roster, as the README has it served."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.roster.service import reachable_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ROSTER = Path(__file__).parents[2] / "examples" / "roster"
START_SECONDS = 60


@pytest.fixture(scope="module")
def roster() -> Iterator[httpx.Client]:
    """Serve roster as `make run` does, on a port and with data of its own."""
    with reachable_folder() as folder, socket.socket() as listening, (folder / "log").open("wb") as log:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        shared = folder / "shared"  # with no roster that another test, or somebody else, runs meanwhile
        shared.mkdir(mode=0o700)
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "roster.main:app", "--fd", str(listening.fileno())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROSTER), "XDG_RUNTIME_DIR": str(shared)},
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=log,
        )
        try:
            port = listening.getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS) as client:
                yield client
        finally:
            server.terminate()
            server.wait(START_SECONDS)
