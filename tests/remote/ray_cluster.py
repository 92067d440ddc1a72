"""A Ray of the tests' own: two CPUs, what passes for a GPU, a token; it ends with the process that has started it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
PATIENCE = 80
TO_STOP = 1
TOKEN = secrets.token_hex(32)
"""One for all clusters that this process sees: Ray reads it once."""


@contextmanager
def cluster() -> Iterator[Path]:
    """Run Ray for a block in which this process and its children find it; give the folder that its actors write to."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    port = free_port()
    settings = {
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "src")]),
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "XDG_RUNTIME_DIR": str(folder),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    command = [sys.executable, __file__, str(port), str(folder / "t")]
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    log, deadline = folder / "t.log", time.monotonic() + PATIENCE
    try:
        while not log.exists() or "Ray runtime started" not in log.read_text():
            assert keeper.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield folder
    finally:
        keeper.communicate(timeout=PATIENCE)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        shutil.rmtree(folder, ignore_errors=True)


def without_notes(folder: Path, *kept: str) -> Path:
    """Give the folder, without the notes of other tests but those that are to be kept."""
    for path in folder.iterdir():
        if path.is_file() and path.name not in kept:
            path.unlink()
    return folder


def keep(port: str, folder: str) -> None:
    """Run Ray until nobody holds the other end of the standard input."""
    limits = ["--num-cpus=2", "--num-gpus=1", "--object-store-memory=100000000"]
    ports = ["--min-worker-port=0", "--max-worker-port=0"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--port={port}", f"--temp-dir={folder}", *limits, *ports, *quiet]
    with Path(f"{folder}.log").open("w") as log:
        ray = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    sys.stdin.read()
    ray.send_signal(signal.SIGTERM)  # it stops what it has started
    with suppress(subprocess.TimeoutExpired):
        ray.wait(TO_STOP)
    with suppress(ProcessLookupError):
        os.killpg(ray.pid, signal.SIGKILL)


if __name__ == "__main__":
    keep(*sys.argv[1:])
