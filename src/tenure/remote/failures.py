"""Errors on their way to another process: by class, arguments and traceback; made anew without running their code."""

from __future__ import annotations

import sys
import traceback
from operator import attrgetter
from typing import Any

from tenure.errors import NotSerialisable
from tenure.remote.errors import RemoteFailure
from tenure.remote.values import written

LARGEST = 64 * 1024
"""Bytes that an error's arguments, and each of its attributes, may have to be sent; and characters of its texts."""


def told(error: BaseException) -> dict[str, Any]:
    """Describe an error as data; always, whatever its own code does, and never as more than is bearable."""
    kind = type(error)
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "message": _text(_message(error)),
        "traceback": _text("".join(traceback.format_exception(error))),
        "arguments": _data(list(_base(kind).__reduce__(error)[1])),
        "state": {key: value for key, value in vars(error).items() if _data(value) is not None or value is None},
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 (whatever its own code raises)
        return f"<str() of it raises {type(failure).__qualname__}>"


def _text(text: str) -> str:
    # A part of a path that is no UTF-8 is in it as what no UTF-8 can hold.
    return text[-LARGEST:].encode("utf-8", "backslashreplace").decode()


def _data(value: Any) -> Any:  # noqa: ANN401 (any value)
    try:
        content, buffers = written(value)
    except NotSerialisable:
        return None
    return value if len(content) + sum(map(len, buffers)) <= LARGEST else None


def _base(kind: type[BaseException]) -> Any:  # noqa: ANN401 (a class, called by its special methods)
    """Give the class of Python's own that keeps what an error was made with: no code of the program's."""
    return next(each for each in kind.__mro__ if each.__module__ == "builtins")


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
    base, arguments = _base(kind), described["arguments"]
    try:
        error: Exception = base.__new__(kind, *arguments)
        base.__init__(error, *arguments)
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
