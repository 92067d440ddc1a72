"""What a keeper tells the worker that started it, through a pipe: that the service is ready, or why it is not."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from tenure.errors import HostServiceError, TenureError


class Report:
    """The keeper's end of the pipe; it speaks once, and nobody need be listening any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @property
    def given(self) -> bool:
        """Whether the one word has been said."""
        return self._descriptor is None

    def ready(self) -> None:
        """Say that there is a service, or another keeper that sees to it."""
        self._say({})

    def failed(self, error: Exception) -> None:
        """Say why there will be no service."""
        if isinstance(error, TenureError):
            self._say({"code": error.code, "message": error.message, "path": error.path, "hint": error.hint})
        else:
            self._say({"message": f"{type(error).__name__}: {error}"})

    def _say(self, word: dict[str, object]) -> None:
        if self._descriptor is None:
            return
        with suppress(BrokenPipeError):
            os.write(self._descriptor, json.dumps(word).encode())
        os.close(self._descriptor)
        self._descriptor = None


def understand(word: bytes) -> HostServiceError | None:
    """Turn what was read from the pipe into the error that it tells of, or None when the service is ready."""
    if not word:
        return HostServiceError("its keeper ended without a word")
    told = json.loads(word)
    if not told:
        return None
    kinds = {kind.code: kind for kind in HostServiceError.__subclasses__()}
    kind = kinds.get(told.get("code", ""), HostServiceError)
    return kind(told["message"], path=told.get("path", ()), hint=told.get("hint", ""))
