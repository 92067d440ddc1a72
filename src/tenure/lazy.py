"""Names that a package imports when they are first asked for: who does not use them does not wait for them."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _Package(ModuleType):
    """A package that offers a name which is its submodule's too: to import that would put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in getattr(self, "__all__", ()):
            value = getattr(value, name)
        super().__setattr__(name, value)


def names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Give a package's `__getattr__`; `homes` says in which module each name is."""
    sys.modules[package].__class__ = _Package

    def imported(name: str) -> object:
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg, name=name, obj=sys.modules[package])
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return imported
