"""A process that measures, and tells lines of JSON meanwhile: what it measures next, and the rows that it has found."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def told_by(
    command: Sequence[str], settings: Mapping[str, str], advance: Callable[[str], object]
) -> list[dict[str, Any]]:
    """
    Run it, with settings in its environment, and give its rows.

    Raises:
        CalledProcessError: It has failed; why is on the standard error.
    """
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}) as process:  # noqa: S603 (ours)
        for line in process.stdout or ():
            said = json.loads(line)
            if isinstance(said, str):
                advance(said)
            else:
                rows.append(said)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return rows
