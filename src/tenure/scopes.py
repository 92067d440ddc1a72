"""The five scopes, from the shortest-lived to the longest, and which may hold which."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

ScopeName: TypeAlias = Literal["function", "request", "app", "host", "cluster"]
"""How long a dependency lives and how far it reaches; each scope lives longer than the one before it."""

SCOPES: tuple[ScopeName, ...] = get_args(ScopeName)

SERVED: frozenset[ScopeName] = frozenset({"function", "request", "app"})
"""The scopes that need no engine: FastAPI's request or the app's own process holds what lives in them."""

_RANK = {scope: rank for rank, scope in enumerate(SCOPES)}


def may_hold(holder: ScopeName, held: ScopeName) -> bool:
    """Tell whether something of scope `holder` may keep something of scope `held`: only what lives as long."""
    return _RANK[held] >= _RANK[holder]


def is_shared(scope: ScopeName) -> bool:
    """Tell whether a scope is wider than one process."""
    return _RANK[scope] > _RANK["app"]


def outlives_requests(scope: ScopeName) -> bool:
    """Tell whether a scope is wider than a request, so that nothing in it can see one."""
    return _RANK[scope] > _RANK["request"]
