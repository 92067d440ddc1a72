"""The program's own source: which files are its, and what a factory is written like."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from tenure import calls
from tenure.factories import without_partial

if TYPE_CHECKING:
    from collections.abc import Callable

_PATHS = sysconfig.get_paths()
LIBRARIES = (Path(__file__).parents[1], *(Path(_PATHS[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")))
"""Where what is installed lies: tenure, Python's own modules, and packages."""


def is_own(file: str) -> bool:
    """Tell whether a file is the program's, and not of Python or of an installed package."""
    path = Path(calls.WORKING_FOLDER, file)
    return path.suffix == ".py" and not any(path.is_relative_to(library) for library in LIBRARIES)


def written(factory: Callable[..., Any]) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Parse the function that a factory is, reading its source file; nothing where that is no function's."""
    function = inspect.unwrap(without_partial(factory))
    if not inspect.isroutine(function):
        return None
    try:
        [statement, *_] = ast.parse(dedent(inspect.getsource(function))).body
    except (OSError, TypeError, ValueError, SyntaxError):  # made at run time, or a lambda within a call
        return None
    return statement if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) else None
