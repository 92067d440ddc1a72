"""A service whose keeper tells what it has loaded."""

from __future__ import annotations

import sys

from services import Answering


class Light(Answering):
    """Needs nothing of tenure but its base."""

    def prepare(self) -> None:
        """Leave word in the folder."""
        loaded = sorted({"anyio", "fastapi", "pydantic"} & set(sys.modules))
        (self.home / "seen").write_text(repr(loaded))
