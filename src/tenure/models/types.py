"""What items and results of a model are, as its annotations say: data that comes from another process is made that."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from tenure.factories import without_partial
from tenure.remote.signatures import Data, hints_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Types(NamedTuple):
    """
    How data is made what it was on the other side.

    Attributes:
        item: For what callers give.
        result: For what they are given.
    """

    item: Data
    result: Data


def types_of(load: Callable[..., Any]) -> Types:
    """
    Read what the function that `load` gives takes and gives.

    From its return annotation, ``Callable[[list[Item]], Sequence[Result]]``, or from the method `__call__` of the class
    that it gives, or is. What they do not say is taken as it comes.
    """
    load = without_partial(load)
    given = load if inspect.isclass(load) else hints_of(load).get("return", Any)
    if inspect.isclass(given) and get_origin(given) is None:
        hints = hints_of(given.__call__)
        returned = hints.get("return", Any)
        first = next((name for name in inspect.get_annotations(given.__call__) if name != "return"), "")
        taken = hints.get(first, Any)
    else:
        arguments = get_args(given)
        listed = isinstance(arguments[0], list) and len(arguments[0]) == 1 if arguments else False
        taken, returned = (arguments[0][0], arguments[1]) if listed else (Any, Any)
    return Types(Data(_element(taken)), Data(_element(returned)))


def _element(many: Any) -> Any:  # noqa: ANN401 (any type)
    arguments = get_args(many)
    is_array = getattr(get_origin(many), "__module__", "") == "numpy"
    return arguments[0] if arguments and not is_array else Any
