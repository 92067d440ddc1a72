"""Errors on their way to another process: by class, arguments and traceback; made anew without running their code."""

from __future__ import annotations

import sys
import traceback
from operator import attrgetter
from typing import Any

from tenure.errors import NotSerialisable
from tenure.remote.errors import RemoteFailure
from tenure.remote.values import written


def told(error: BaseException) -> dict[str, Any]:
    """Describe an error as data."""
    kind = type(error)
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "arguments": _data(list(error.args)),
        "state": {key: value for key, value in vars(error).items() if _data(value) is not None or value is None},
    }


def _data(value: Any) -> Any:  # noqa: ANN401 (any value)
    try:
        written(value)
    except NotSerialisable:
        return None
    return value


def made_anew(described: dict[str, Any]) -> Exception:
    """
    Make an error of the same class, if this process has loaded it; with the other process's traceback as a note.

    Its constructor is not called: what it was made with is not known, only what it keeps.
    """
    error = _made(described)
    if error is None:
        name = f"{described['module']}.{described['name']}"
        error = RemoteFailure(f"{name}: {described['message']}", kind=name)
    error.add_note(f"raised in the process of the object:\n{described['traceback']}")
    return error


def _made(described: dict[str, Any]) -> Exception | None:
    kind = _class(described["module"], described["name"])
    if kind is None or described["arguments"] is None:
        return None
    try:
        error = kind.__new__(kind)
        error.args = tuple(described["arguments"])
        vars(error).update(described["state"])
    except TypeError:  # it is not made of Python alone, as Pydantic's ValidationError
        return None
    return error


def _class(module: str, name: str) -> type[Exception] | None:
    """Find a class that is loaded: nothing is imported because another process says so."""
    try:
        found = attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, Exception) else None
