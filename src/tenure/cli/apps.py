"""The app that a command is about: found as `fastapi dev` finds it, and imported."""

from __future__ import annotations

import sys
import tomllib
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from fastapi_cli.discover import ModuleData, get_app_name, get_default_path, get_module_data_from_path
from fastapi_cli.exceptions import FastAPICLIException

from tenure.calls import place
from tenure.cli.exits import Exit
from tenure.cli.lines import refuse
from tenure.cli.terminal import coloured, notices
from tenure.errors import MissingExtra, NotStarted, TenureError
from tenure.fastapi.sources import is_own
from tenure.lifespan import planned

if TYPE_CHECKING:
    from types import ModuleType

    from fastapi import FastAPI

    from tenure.fastapi.plan import Plan

MOST_FRAMES = 5
"""How many of the user's own frames are shown of an import that failed."""


class NoApp(Exception):
    """Raised when there is no app to be had; its text says why, the user's own lines in it."""


@dataclass(frozen=True)
class Named:
    """
    How the app was named on the command line.

    Attributes:
        target: The argument: `module:app`, a module, or the path of a file or package.
        entrypoint: `--entrypoint`: `module:app`.
        name: `--app`: its name in the module.
    """

    target: str | None = None
    entrypoint: str | None = None
    name: str | None = None


def app_and_plan(named: Named) -> tuple[FastAPI, Plan]:
    """
    Find and import an app, and find what it would start.

    Raises:
        NoApp: It was named in no way that leads to one, its module cannot be imported, or it is without tenure.
        TenureError: Something is declared that cannot be.
    """
    app = _imported(named)
    try:
        return app, planned(app)
    except NotStarted:
        msg = "the app does not have tenure's lifespan: write `FastAPI(lifespan=lifespan)`"
        raise NoApp(msg) from None


def told(error: NoApp | TenureError) -> Exit:
    """Say why there is nothing to be shown of an app, and give the exit code for that."""
    if isinstance(error, NoApp):
        refuse(str(error))
        return Exit.USAGE
    notices().print(coloured(str(error).strip()))
    return Exit.USAGE if isinstance(error, MissingExtra) else Exit.FINDINGS


def _imported(named: Named) -> FastAPI:
    where, name = _place(named)
    sys.path.insert(0, str(where.extra_sys_path))
    module = _module(where.module_import_str)
    if name is not None and ("." in name or not hasattr(module, name)):
        msg = f"`{where.module_import_str}` has no app named `{name}`"
        raise NoApp(msg)
    try:
        app = getattr(module, get_app_name(mod_data=where, app_name=name))
    except FastAPICLIException as error:
        raise NoApp(str(error)) from None
    return app  # type: ignore[no-any-return] # it is of this type, or it would not have been found


def _place(named: Named) -> tuple[ModuleData, str | None]:
    """Say which module has the app, and by what name if that is known."""
    if named.entrypoint and (named.target or named.name):
        msg = "--entrypoint says all there is to say: give neither an argument nor --app beside it"
        raise NoApp(msg)
    if named.entrypoint:
        return _by_import_string(named.entrypoint)
    if named.target and ":" in named.target:
        if named.name:
            msg = f"`{named.target}` names the app already: leave --app out"
            raise NoApp(msg)
        return _by_import_string(named.target)
    if named.target and _is_module(named.target):
        return _in_folder(named.target), named.name
    if named.target is None and named.name is None and (configured := _configured()):
        return _by_import_string(configured)
    try:
        path = Path(named.target) if named.target else get_default_path()
    except FastAPICLIException as error:
        msg = f"{error}; or name the app: `tenure check module:app`"
        raise NoApp(msg) from None
    if not path.exists():
        msg = f"there is no file {path}"
        raise NoApp(msg)
    return get_module_data_from_path(path), named.name


def _is_module(target: str) -> bool:
    is_dotted = all(map(str.isidentifier, target.split("."))) and not target.endswith(".py")
    return is_dotted and not Path(target).exists()


def _by_import_string(text: str) -> tuple[ModuleData, str]:
    module, _, name = text.partition(":")
    if not module or not name:
        msg = f"`{text}` does not say which app: write `module:app`"
        raise NoApp(msg)
    return _in_folder(module), name


def _in_folder(module: str) -> ModuleData:
    return ModuleData(module_import_str=module, extra_sys_path=Path.cwd(), module_paths=[])


def _configured() -> str | None:
    """Give `entrypoint` of `[tool.fastapi]` in the pyproject.toml of this folder."""
    try:
        settings: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
        entrypoint = settings.get("tool", {}).get("fastapi", {}).get("entrypoint")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"pyproject.toml cannot be read: {error}"
        raise NoApp(msg) from None
    if entrypoint is not None and not isinstance(entrypoint, str):
        msg = f"`entrypoint` of [tool.fastapi] in pyproject.toml is {entrypoint!r}, and not `module:app`"
        raise NoApp(msg)
    return entrypoint


def _module(name: str) -> ModuleType:
    """Import a module; what it prints goes to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            return import_module(name)
    except TenureError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a program may do anything where it is imported)
        where = [f"  {line}" for line in frames_of(error)]
        raise NoApp("\n".join([f"`{name}` cannot be imported: {type(error).__name__}: {error}", *where])) from None


def frames_of(error: BaseException) -> list[str]:
    """Give the user's own frames of an error, the innermost last; of what cannot be parsed, the place."""
    if isinstance(error, SyntaxError):
        return dedent("".join(traceback.format_exception_only(error)[:-1])).splitlines()
    lines: list[str] = []
    for frame in [each for each in traceback.extract_tb(error.__traceback__) if is_own(each.filename)][-MOST_FRAMES:]:
        lines.append(f"{place(frame.filename, frame.lineno or 0)} in {frame.name}")
        lines += [f"  {frame.line}"] if frame.line else []
    return lines
