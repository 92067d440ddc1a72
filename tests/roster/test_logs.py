"""What roster logs, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from roster import logs

def fail(email):
    raise ValueError("no")

logs.configure()
try:
    fail("ada" + "@example.com")
except ValueError:
    logging.getLogger("any").exception("it failed", extra={"attempt": 2})
"""


def test_a_library_is_logged_as_json_without_the_values_of_variables() -> None:
    """Away from a terminal, any library's record is one line of JSON, with its traceback and none of its variables."""
    program = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    [line] = program.stderr.splitlines()
    record = json.loads(line)
    assert (record["event"], record["logger"], record["level"], record["attempt"]) == ("it failed", "any", "error", 2)
    assert "ValueError: no" in record["exception"]
    assert "ada@example.com" not in line
