"""An app under uvicorn with several workers, and a client whose every request may meet another of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PROJECT = Path(__file__).parents[2]
PATIENCE = 30


@contextmanager
def served(app: str, port: int, workers: int, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve an app, by the name under which it is imported, and stop it."""
    command = ["uvicorn", app, "--port", str(port), "--workers", str(workers), "--log-level", "warning"]
    path = os.pathsep.join(["src", os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": path, **variables},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)


@asynccontextmanager
async def connected(port: int, path: str) -> AsyncIterator[httpx.AsyncClient]:
    """Wait until a path is answered, and give the client."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, limits=limits) as client:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await client.get(path)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    break
        yield client
