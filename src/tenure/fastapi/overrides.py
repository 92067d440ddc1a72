"""`dependency_overrides` while an app runs: with started stand-ins, and reaching into mounted apps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenure.calls import name_of
from tenure.errors import OverrideError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tenure.resources import Resource

Call = Callable[..., Any]


class Inherited(MutableMapping[Call, Call]):
    """A mounted app's overrides, with those of the outer app before them, as they are at each look-up."""

    def __init__(self, own: dict[Call, Call], outer: FastAPI) -> None:
        self.own = own
        self._outer = outer

    def _merged(self) -> Mapping[Call, Call]:
        outer = self._outer.dependency_overrides
        return {**self.own, **outer} if outer else self.own

    def __getitem__(self, key: Call) -> Call:
        return self._merged()[key]

    def __iter__(self) -> Iterator[Call]:
        return iter(self._merged())

    def __len__(self) -> int:
        return len(self._merged())

    def __setitem__(self, key: Call, value: Call) -> None:
        self.own[key] = value

    def __delitem__(self, key: Call) -> None:
        del self.own[key]


def overrides_of(app: FastAPI, mounted: list[FastAPI]) -> dict[Call, Call]:
    """
    Give the overrides that hold for an app and all that is mounted in it; the outer app's come first.

    Raises:
        OverrideError: One of them is not a dependency.
    """
    merged: dict[Call, Call] = {}
    for each in [*reversed(mounted), app]:
        merged.update(each.dependency_overrides)
    refuse_values(merged)
    return merged


def refuse_values(overrides: Mapping[Call, Call]) -> None:
    """
    Refuse overrides that are values, as `dependency_overrides` takes what makes one.

    Raises:
        OverrideError: One of them cannot be called.
    """
    for call, override in overrides.items():
        if not callable(override):
            msg = f"the override of `{name_of(call)}` is {override!r}, which is not a dependency"
            raise OverrideError(msg, hint=f"give what makes it: `{{{name_of(call)}: lambda: fake}}`")


@contextmanager
def in_force(apps: list[FastAPI], stand_ins: Mapping[Resource[Any], Resource[Any]]) -> Generator[None]:
    """Let started stand-ins answer for what they replace, and mounted apps see those of the first, the outer."""
    replaced = [
        (each.dependency_overrides, call, each.dependency_overrides[call], stand_in)
        for each in apps
        for call, stand_in in stand_ins.items()
        if call in each.dependency_overrides
    ]
    for changed, call, _, stand_in in replaced:
        changed[call] = stand_in
    inherited = [(each, Inherited(each.dependency_overrides, apps[0])) for each in apps[1:]]
    for each, view in inherited:
        each.dependency_overrides = view  # type: ignore[assignment] # all that FastAPI does is look up
    try:
        yield
    finally:
        for each, view in inherited:
            if each.dependency_overrides is view:
                each.dependency_overrides = view.own
        for changed, call, before, stand_in in replaced:
            if changed.get(call) is stand_in:
                changed[call] = before
