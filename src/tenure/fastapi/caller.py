"""What FastAPI knows of a call but does not hand over: `use_cache`, and the security scopes that it keys by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import FrameType


class Caller(NamedTuple):
    """How a dependency was asked for."""

    use_cache: bool = True
    security_scopes: tuple[str, ...] = ()


def caller_of(frame: FrameType | None) -> Caller:
    """
    Read how FastAPI asks for a dependency, from the frame of its solver.

    Why it is read there: docs/decisions/0001-one-instance-per-request.md.

    Where the frame is not the solver's, or not as known, the answer is FastAPI's default: one value, shared.
    """
    if frame is None or frame.f_code.co_name != "solve_dependencies":
        return Caller()
    known = frame.f_locals
    dependant = known.get("sub_dependant")
    key = known.get("sub_dependant_cache_key") or getattr(dependant, "cache_key", None)
    use_cache = bool(getattr(dependant, "use_cache", True))
    scopes = key[1] if isinstance(key, tuple) and len(key) > 1 else ()
    return Caller(use_cache, tuple(map(str, scopes)) if isinstance(scopes, tuple) else ())
