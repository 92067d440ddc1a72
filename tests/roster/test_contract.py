"""roster against its own OpenAPI document, with made-up requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from schemathesis import Case

    from tests.roster.service import Service
