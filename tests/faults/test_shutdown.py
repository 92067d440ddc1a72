"""SIGTERM to a real server: every closer runs, the culprit is named, and the process ends by itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

CLOSES = {
    "well": None,
    "raises": "`culprit` failed to close: OSError('socket is gone')",
    "hangs": "`culprit` did not close within 0.5 s, and was cancelled",
    "swallows": "`culprit` did not end after it was cancelled, and was left behind",
}


@contextmanager
def served(port: int, closes: str) -> Iterator[subprocess.Popen[str]]:
    """Serve the app with uvicorn until it is told to end."""
    command = [sys.executable, "-m", "uvicorn", "tests.faults.shutting:app", "--port", str(port)]
    environment = {**os.environ, "CLOSES": closes}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            for line in server.stderr or ():
                if "Application startup complete" in line:
                    break
            yield server
        finally:
            server.kill()


@pytest.mark.parametrize("closes", CLOSES)
def test_every_closer_runs_and_the_process_ends(closes: str, port: int) -> None:
    """Whether one closes well, raises, hangs or swallows its cancellation, the others close and the server exits."""
    with served(port, closes) as server:
        assert httpx.get(f"http://127.0.0.1:{port}/").json() == "below"
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=30)
    expected = ["above closed", *(["culprit closed"] if closes == "well" else []), "below closed"]
    assert out.splitlines()[-len(expected) :] == expected
    assert server.returncode is not None
    culprit = CLOSES[closes]
    assert culprit is None or culprit in err
