"""Objects that live in a process of their own, one for all workers of a machine, and handles on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.remote.errors import CallTimeout, NoCluster, OwnerBusy, OwnerDied, RemoteError, RemoteFailure
    from tenure.remote.handle import Remote, local
    from tenure.remote.hosted import hosted, idempotent

__all__ = [
    "CallTimeout",
    "NoCluster",
    "OwnerBusy",
    "OwnerDied",
    "Remote",
    "RemoteError",
    "RemoteFailure",
    "hosted",
    "idempotent",
    "local",
]

__getattr__ = names(
    __name__,
    {
        **dict.fromkeys(["Remote", "local"], f"{__name__}.handle"),
        **dict.fromkeys(["hosted", "idempotent"], f"{__name__}.hosted"),
        **dict.fromkeys(
            ["CallTimeout", "NoCluster", "OwnerBusy", "OwnerDied", "RemoteError", "RemoteFailure"],
            f"{__name__}.errors",
        ),
    },
)
