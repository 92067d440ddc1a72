"""The app that the ini option `tenure_app` names."""

from __future__ import annotations

from importlib import import_module
from inspect import isfunction
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from fastapi import FastAPI

from tenure.errors import DeclarationError

if TYPE_CHECKING:
    from types import ModuleType

OPTION = "tenure_app"
_FIXTURE = "or write a session-scoped fixture `tenure_app` in conftest.py that makes the app"


def named_app(config: pytest.Config) -> FastAPI:
    """Import the app that the option names; fail the test with what was tried, where it names none."""
    named: str = config.getini(OPTION)
    if not named:
        where = f'set `{OPTION} = "package.module:app"` among the ini options of pytest'
        _refuse("nothing says which app is tested", [], f"{where}, {_FIXTURE}")
    module_name, _, name = (part.strip() for part in named.partition(":"))
    module = _imported(module_name, named, config)
    tried = [f"{OPTION} = {named!r}", f"imported `{module_name}`  {getattr(module, '__file__', None) or 'built in'}"]
    app: Any = module
    for part in name.split("."):
        if not hasattr(app, part):
            _refuse(f"`{module_name}` has no `{name}`", tried, _others(module))
        app = getattr(app, part)
    if not isinstance(app, FastAPI):
        _refuse(f"`{named}` is {_kind(app)}, not a FastAPI app", tried, _others(module))
    return app


def _imported(module: str, named: str, config: pytest.Config) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        tried = [f"{OPTION} = {named!r}", f"there is no module `{error.name}` on sys.path"]
        hint = f'install the project, or name the folder where it lies, from {config.rootpath}: `pythonpath = ["src"]`'
        _refuse(f"`{module}` cannot be imported", tried, hint)


def _kind(value: object) -> str:
    return "a function" if isfunction(value) else f"of type `{type(value).__name__}`"


def _others(module: ModuleType) -> str:
    apps = [f"`{module.__name__}:{name}`" for name, value in vars(module).items() if isinstance(value, FastAPI)]
    return f"it has {', '.join(apps)}; name that, {_FIXTURE}" if apps else f"name an app, {_FIXTURE}"


def _refuse(message: str, path: list[str], hint: str) -> NoReturn:
    pytest.fail(str(DeclarationError(message, path=path, hint=hint)), pytrace=False)
