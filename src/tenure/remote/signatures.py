"""What the annotations of a method say of its arguments and its answer: data is made into that again on arrival."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from contextlib import suppress
from functools import lru_cache
from itertools import chain, repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError
from typing_extensions import TypeAliasType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_ARBITRARY = ConfigDict(arbitrary_types_allowed=True)


class Data:
    """What a type says of a value that comes from another process; one that says nothing lets it be."""

    def __init__(self, hint: Any) -> None:  # noqa: ANN401 (any type)
        self._adapter = _adapter(hint)

    def made(self, value: Any) -> Any:  # noqa: ANN401 (any value)
        """Give a value as it was made on the other side."""
        if self._adapter is _ANY:
            return value
        # A model's fields are sent by their names; and what it was not strict about once need not be met again.
        return self._adapter.validate_python(value, strict=False, by_alias=True, by_name=True)


class Signature:
    """
    A method, as its annotations have it.

    Attributes:
        streams: Whether it is a generator, whose items are sent one by one.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        function = inspect.unwrap(method)
        self.streams = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
        hints = hints_of(function)
        answer = hints.get("return", Any)
        if self.streams:
            answer = next(iter(get_args(answer)), Any)
        self._answer = Data(answer)
        self._positional: list[Data] = []
        self._named: dict[str, Data] = {}
        self._further = self._other = _SILENT
        for each in list(inspect.signature(function).parameters.values())[1:]:
            data = Data(hints.get(each.name, Any))
            match each.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    self._further = data
                case inspect.Parameter.VAR_KEYWORD:
                    self._other = data
                case kind:
                    if kind is not inspect.Parameter.KEYWORD_ONLY:
                        self._positional.append(data)
                    if kind is not inspect.Parameter.POSITIONAL_ONLY:
                        self._named[each.name] = data

    def answer(self, value: Any) -> Any:  # noqa: ANN401 (any value)
        """Give an answer, or an item of a stream, as the method has made it."""
        return self._answer.made(value)

    def arguments(self, positional: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Give arguments as the caller has given them."""
        datas = chain(self._positional, repeat(self._further))
        made = [data.made(value) for data, value in zip(datas, positional, strict=False)]
        return made, {name: self._named.get(name, self._other).made(value) for name, value in named.items()}


@lru_cache(maxsize=1024)
def signature_of(method: Callable[..., Any]) -> Signature:
    """Give what a method's annotations say; read once."""
    return Signature(method)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """
    Give what a function's annotations say, as far as they can be read.

    An annotation that names what only a type checker sees says nothing. The names of `typing` and `collections.abc` are
    known however they were imported, for tools move their imports to where only type checkers look.
    """
    function = inspect.unwrap(function)
    known = {**vars(typing), **vars(collections.abc), **getattr(function, "__globals__", {})}
    hints: dict[str, Any] = {}
    for name, annotation in inspect.get_annotations(function).items():
        with suppress(NameError, TypeError, AttributeError, SyntaxError):
            hints |= get_type_hints(SimpleNamespace(__annotations__={name: annotation}), known, include_extras=True)
    return hints


def _adapter(hint: Any) -> TypeAdapter[Any]:  # noqa: ANN401 (any type)
    if hint is Any or hint is inspect.Parameter.empty:
        return _ANY
    origin = get_origin(hint)
    if isinstance(hint, type) and origin is None and hint.__module__ == "numpy":
        return _ANY
    try:
        try:
            return TypeAdapter(hint, config=_ARBITRARY)
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            # A class that may have a configuration of its own, as a dataclass, takes another's only by way of a name.
            return TypeAdapter(cast("Any", TypeAliasType)("Named", hint), config=_ARBITRARY)
    except (PydanticUserError, NameError, TypeError):
        return _ANY


_SILENT = Data(Any)
