"""What the command's exit codes mean."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command has found; scripts and CI branch on it."""

    FINE = 0
    """All is well."""
    FINDINGS = 1
    """The app has findings, is unhealthy or did not start."""
    USAGE = 2
    """The command was misused, a package is missing, or the app could not be imported: nothing was found out."""
    TIMEOUT = 3
    """It took longer than `--timeout`."""
    INTERRUPTED = 130
    """Ctrl-C, as shells have it; or SIGTERM."""
