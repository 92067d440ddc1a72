"""A service whose module takes from `tenure` what a module of an app may take."""

from __future__ import annotations

import sys

import tenure.lifespan
from services import Answering
from tenure import Counter, host, lifespan, scoped


class Laden(Answering):
    """Is declared beside the app."""

    def prepare(self) -> None:
        """Leave word in the folder."""
        module = sys.modules["tenure.lifespan"]
        seen = (
            tenure.lifespan is lifespan is module.lifespan,
            tenure.host is host,
            scoped.__name__,
            Counter.__name__,
        )
        (self.home / "seen").write_text(repr(seen))
