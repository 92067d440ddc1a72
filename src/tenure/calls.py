"""What a dependency is called, where it is written, and what stands on its parameters."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args, get_origin

from tenure.errors import DeclarationError
from tenure.factories import without_partial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from inspect import Parameter

WORKING_FOLDER = Path.cwd()
"""Where the program was started, as far as is known; asking again would block the event loop."""


class Step(NamedTuple):
    """One line of a drawn path."""

    name: str
    scope: str
    place: str


def name_of(call: Callable[..., Any]) -> str:
    """Give the short name of a factory or dependency."""
    call = without_partial(call)
    return str(getattr(call, "__name__", type(call).__name__))


def location_of(call: Callable[..., Any]) -> str:
    """Give ``file:line`` of a factory or dependency, relative to the working folder, or its module."""
    call = without_partial(call)
    target: Any = inspect.unwrap(call)
    written: Any = target if inspect.isroutine(target) else vars(type(target)).get("__call__")
    if inspect.isclass(target):
        written = vars(target).get("__init__")
    code = getattr(written, "__code__", None)  # known without reading the source, which would block the event loop
    if code is None:
        return str(getattr(target, "__module__", "unknown"))
    return place(code.co_filename, code.co_firstlineno)


def place(file: str, line: int) -> str:
    """Give ``file:line``, relative to the working folder where it lies below that."""
    path = Path(file)
    return f"{path.relative_to(WORKING_FOLDER) if path.is_relative_to(WORKING_FOLDER) else path}:{line}"


def caller(depth: int = 1) -> str:
    """Give ``file:line`` of who has called the function that asks, or of who is `depth` calls above that."""
    frame = sys._getframe(depth + 1)  # noqa: SLF001 (the cheap way: `inspect` reads source files)
    return place(frame.f_code.co_filename, frame.f_lineno)


def drawn(steps: Sequence[Step]) -> list[str]:
    """Draw a path as a tree of name, scope and place, one below the other."""
    names = [f"{'  ' * (depth - 1)}└ {step.name}" if depth else step.name for depth, step in enumerate(steps)]
    width, scopes = max(map(len, names)), max(len(step.scope) for step in steps)
    return [f"{name:<{width}}  {step.scope:<{scopes}}  {step.place}" for name, step in zip(names, steps, strict=True)]


def parameters_of(factory: Callable[..., Any]) -> list[Parameter]:
    """
    Give a factory's parameters with their annotations evaluated.

    Raises:
        DeclarationError: An annotation names something that is not defined where the factory is.
    """
    with suppress(Exception):  # whatever an annotation raises: perhaps that of the answer alone, which FastAPI forgives
        return list(inspect.signature(factory, eval_str=True).parameters.values())
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some built-in classes have no signature, and take nothing that FastAPI could give
        return []
    return [
        parameter.replace(annotation=evaluated(factory, parameter.annotation, f"a parameter `{parameter.name}`"))
        for parameter in parameters
    ]


def evaluated(factory: Callable[..., Any], annotation: object, whose: str) -> Any:  # noqa: ANN401 (any type)
    """
    Give what an annotation of a factory says, which may be written as text; `whose` it is, an error tells.

    Raises:
        DeclarationError: It names something that is not defined where the factory is.
    """
    if not isinstance(annotation, str):
        return annotation
    target = inspect.unwrap(factory.__init__ if inspect.isclass(factory) else factory)
    try:
        return eval(annotation, getattr(target, "__globals__", {}))  # noqa: S307 (the program's own source)
    except Exception as error:  # noqa: BLE001 (whatever the program's own source raises)
        reason = str(error) if isinstance(error, NameError) else f"{type(error).__name__}: {error}"
        msg = f"`{name_of(factory)}` has {whose} whose annotation cannot be read: {reason}"
        hint = "define or import that name at module level, not in a function or under `if TYPE_CHECKING`"
        raise DeclarationError(msg, path=[f"declared at {location_of(factory)}"], hint=hint) from None


def type_and_marks(parameter: Parameter) -> tuple[Any, list[object]]:
    """Give a parameter's type, and what FastAPI may read beside it: its default, then its `Annotated` from the last."""
    annotation = getattr(parameter.annotation, "__value__", parameter.annotation)  # an alias of a `type` statement
    if get_origin(annotation) is not Annotated:
        return annotation, [parameter.default]
    kind, *marks = get_args(annotation)
    return kind, [parameter.default, *reversed(marks)]
