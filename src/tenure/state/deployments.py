"""Which deployment a process belongs to: those of one name share their state, so that two apps never do by accident."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tenure.calls import WORKING_FOLDER
from tenure.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tenure.scopes import ScopeName

VARIABLE = "TENURE_DEPLOYMENT"
"""The environment variable that names the deployment."""

SUFFIX_VARIABLE = "TENURE_DEPLOYMENT_SUFFIX"
"""The environment variable whose value follows each name, whoever said it; the plugin for pytest sets it."""

STATE_VARIABLE = "TENURE_STATE"
"""The environment variable that says where machines share state."""
SCHEMES = frozenset({"valkey", "valkeys", "redis", "rediss", "unix", "postgresql", "postgres"})
_ADDRESS = f'`lifespan(state="valkey://host:6379")` or "postgresql://…", or set {STATE_VARIABLE}'

PROJECT_FILES = ("pyproject.toml", "setup.py", ".git")
"""What the root of a project has."""

_LENGTH = 64
_ALLOWED = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LENGTH - 1}}}")
_DIGITS = 12
_TITLE_LENGTH = 40


def _project_folder(start: Path) -> Path:
    candidates = (start, *start.parents)
    return next((folder for folder in candidates if any((folder / name).exists() for name in PROJECT_FILES)), start)


# Looked up once, when the program is imported: at its start it must not block the event loop.
PROJECT_FOLDER = _project_folder(WORKING_FOLDER)
"""The nearest folder above the working folder that has one of `PROJECT_FILES`, else the working folder."""

_deployment: ContextVar[str | None] = ContextVar("tenure_deployment", default=None)
_state: ContextVar[str | None] = ContextVar("tenure_state", default=None)


def deployment_name(given: str | None = None, *, title: str = "") -> str:
    """
    Say which deployment an app belongs to.

    What `TENURE_DEPLOYMENT_SUFFIX` says follows the name, so that tests share nothing with what they are tests of.

    Args:
        given: What the program says; it comes first, then the environment variable `TENURE_DEPLOYMENT`.
        title: The app's title, from which a name is derived if nothing names the deployment, together with the user
            and the project's folder. So all workers of one app have the same, however many there are.

    Raises:
        DeclarationError: The name cannot be a folder's.
    """
    name = given if given is not None else os.environ.get(VARIABLE) or _derived(title)
    if not _ALLOWED.fullmatch(name):
        msg = f"the deployment {name!r} cannot be the name of a folder"
        raise DeclarationError(
            msg, hint="use at most 64 letters, digits, `.`, `_` and `-`, a letter or a digit first: `roster-blue`"
        )
    suffix = os.environ.get(SUFFIX_VARIABLE, "")
    if name.endswith(suffix):  # it is there already where a name is given that this function gave
        return name
    if len(name) + len(suffix) > _LENGTH:
        name = f"{name[: _LENGTH - len(suffix) - _DIGITS - 1]}-{_digest(name)}"
    return deployment_name(f"{name}{suffix}")


def state_url(given: str | None = None) -> str | None:
    """
    Say where state is kept that machines share, if anything does: what the program says, else `TENURE_STATE`.

    Raises:
        DeclarationError: It is no address of an engine that there is.
    """
    url = given if given is not None else os.environ.get(STATE_VARIABLE) or None
    if url is not None and (scheme := url.partition(":")[0].lower()) not in SCHEMES:
        msg = f"state is to be kept at '{scheme}:…', which is no engine's address"
        raise DeclarationError(msg, hint=_ADDRESS)
    return url


def lacking(scope: ScopeName, state: str | None) -> str:
    """Say what a handle of this scope lacks to be served, if it lacks anything."""
    return f"say where machines share state: {_ADDRESS}" if scope == "cluster" and state is None else ""


@contextmanager
def deployed(name: str, state: str | None = None) -> Generator[None]:
    """Let what starts in this block, and the tasks that it creates, share state with the deployment of this name."""
    tokens = _deployment.set(deployment_name(name)), _state.set(state)
    try:
        yield
    finally:
        _deployment.reset(tokens[0])
        _state.reset(tokens[1])


def current_state() -> str | None:
    """Give the address at which the deployment of the block around shares state among machines, if there is one."""
    return _state.get()


def current_deployment() -> str:
    """Give the deployment of the block around, else the one that an app without a title would have."""
    return _deployment.get() or deployment_name()


def _derived(title: str) -> str:
    digest = _digest("\0".join((str(os.geteuid()), str(PROJECT_FOLDER), title)))
    readable = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:_TITLE_LENGTH].strip("-")
    return f"{readable or 'app'}-{digest}"


def _digest(told: str) -> str:
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
