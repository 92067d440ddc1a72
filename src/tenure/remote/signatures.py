"""What the annotations of a method say of its arguments and its answer: data is made into that again on arrival."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ANY: TypeAdapter[Any] = TypeAdapter(Any)


class Data:
    """What a type says of a value that comes from another process; one that says nothing lets it be."""

    def __init__(self, hint: Any) -> None:  # noqa: ANN401 (any type)
        self._adapter = _adapter(hint)

    def made(self, value: Any) -> Any:  # noqa: ANN401 (any value)
        """Give a value as it was made on the other side."""
        return value if self._adapter is _ANY else self._adapter.validate_python(value)


class Signature:
    """
    A method, as its annotations have it.

    Attributes:
        streams: Whether it is a generator, whose items are sent one by one.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        function = inspect.unwrap(method)
        self.streams = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
        try:
            hints = get_type_hints(function, include_extras=True)
        except (NameError, TypeError):  # names that only a type checker sees: values are taken as they come
            hints = {}
        answer = hints.pop("return", Any)
        if self.streams:
            answer = next(iter(get_args(answer)), Any)
        self._answer = Data(answer)
        self._arguments = {name: Data(hint) for name, hint in hints.items()}
        parameters = list(inspect.signature(function).parameters.values())[1:]
        positional = [each.name for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        self._positional = [self._arguments.get(name, _SILENT) for name in positional]

    def answer(self, value: Any) -> Any:  # noqa: ANN401 (any value)
        """Give an answer, or an item of a stream, as the method has made it."""
        return self._answer.made(value)

    def arguments(self, positional: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Give arguments as the caller has given them."""
        made = [data.made(value) for data, value in zip(self._positional, positional, strict=False)]
        made += positional[len(made) :]
        return made, {name: self._arguments.get(name, _SILENT).made(value) for name, value in named.items()}


@lru_cache(maxsize=1024)
def signature_of(method: Callable[..., Any]) -> Signature:
    """Give what a method's annotations say; read once."""
    return Signature(method)


def _adapter(hint: Any) -> TypeAdapter[Any]:  # noqa: ANN401 (any type)
    if hint is Any or hint is inspect.Parameter.empty:
        return _ANY
    origin = get_origin(hint)
    if isinstance(hint, type) and origin is None and hint.__module__ == "numpy":
        return _ANY
    try:
        try:
            return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            return TypeAdapter(hint)
    except (PydanticUserError, NameError, TypeError):
        return _ANY


_SILENT = Data(Any)
