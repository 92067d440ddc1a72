"""State in the memory of one process."""

from __future__ import annotations

from threading import Lock


class MemoryNumber:
    """A whole number that threads and the event loop may add to at once; lost when its process ends."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._value = 0

    def add(self, n: int = 1) -> int:
        """Add to it and give the new value, in one atomic step."""
        with self._lock:
            self._value += n
            return self._value

    @property
    def value(self) -> int:
        """The value now."""
        return self._value
