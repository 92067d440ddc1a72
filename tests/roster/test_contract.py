"""roster against its own OpenAPI document, with made-up requests."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.roster.service import PROGRAMS, Service

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)  # real processes, on a machine that may be busy

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "use_after_free",
    "ensure_resource_availability",
)
ENABLED = "\n".join(f"{check}.enabled = true" for check in CHECKS)
SETTINGS = f"""
[checks]
enabled = false
{ENABLED}

[[operations]]
include-path = "/users/{{user_id}}/avatar"
checks.ensure_resource_availability.enabled = false  # who was just added has no avatar
"""
EXAMPLES = 100
"""For each operation and phase."""


def test_no_request_meets_an_undocumented_answer(tmp_path: Path, database: str) -> None:
    """Whatever is sent, in whatever order: no 5xx, and status, content type and body as the document says."""
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with Service(tmp_path, ROSTER_DSN=database, ROSTER_WRITES_PER_MINUTE="1000000") as service:
        service.until_ready()
        schemathesis = subprocess.run(
            [
                PROGRAMS / "schemathesis",
                "--no-color",
                "run",
                f"{service.url}/openapi.json",
                "--exclude-path=/stats/live",  # which has no end
                f"--max-examples={EXAMPLES}",
                "--generation-deterministic",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        errors = service.errors
    assert schemathesis.returncode == 0, schemathesis.stdout + schemathesis.stderr
    assert "Traceback" not in errors
