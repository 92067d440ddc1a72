"""What becomes of kept answers when users change: another revision begins, and they are asked for no more."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from fastapi import Depends

from tenure import Counter, scoped

changes = Counter("changes", scope="host")
Changes = Annotated[Counter, Depends(changes)]


@scoped("host")
def run(_changes: Changes) -> str:
    """
    Name this run of the workers, so that what an earlier one has kept is not taken for its own.

    It takes the count, which so lives longer: no two runs of one name count from 0.
    """
    return uuid4().hex


class Revisions:
    """
    Which state the users are in, as far as this machine's workers have changed them.

    A count in memory that the workers share: to read it costs nothing, and it does not fail when Valkey is away, as a
    number that is kept there would, after the change is made.
    """

    def __init__(self, run: str, changes: Counter) -> None:
        self._run = run
        self._changes = changes

    @property
    def current(self) -> str:
        """The name of this revision; what is read from now on is at least as new."""
        return f"{self._run}/{self._changes.value}"

    def end(self) -> None:
        """Let another begin, in all workers at once: users have changed, or may have."""
        self._changes.add()


@scoped("app")
async def revisions(run: Annotated[str, Depends(run)], changes: Changes) -> Revisions:
    """Share the revisions with the other workers of this machine."""
    return Revisions(run, changes)


CurrentRevisions = Annotated[Revisions, Depends(revisions)]
