"""What is kept and sent: JSON by Pydantic, as FastAPI's own, or bytes as they are, never larger than a bound."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import from_json, to_json

from tenure.errors import DeclarationError, NotSerialisable, StateTooLarge
from tenure.state.engines import LARGEST_KEY

T = TypeVar("T")


class Unreadable(ValueError):
    """What was read is not of the handle's type: another version of the program has written it, say."""


class Values(Generic[T]):
    """
    How one handle's values become bytes, and bytes become values: a copy each time, whatever the scope.

    Args:
        owner: What errors call the handle.
        kind: The type of the values: `bytes`, what Pydantic can validate, or nothing for whatever JSON holds.
        max_bytes: How large a value may be, as JSON.

    Raises:
        DeclarationError: Pydantic cannot validate the type.
    """

    def __init__(self, owner: str, kind: Any, max_bytes: int) -> None:  # noqa: ANN401 (any type)
        self._owner = owner
        self._max_bytes = max_bytes
        self._is_bytes = kind is bytes
        self._adapter: TypeAdapter[T] | None = None
        if kind is not None and not self._is_bytes:
            self._adapter = _adapter(owner, kind)

    def encode(self, value: T) -> bytes:
        """
        Write a value.

        Raises:
            NotSerialisable: It is not of the type, or JSON cannot hold it.
            StateTooLarge: It is larger than the bound.
        """
        written = self._as_it_is(value) if self._is_bytes else self._as_json(value)
        if len(written) > self._max_bytes:
            msg = f"a value for the {self._owner} has {len(written)} bytes, more than {self._max_bytes}"
            raise StateTooLarge(msg, hint="keep less of it, or raise `max_bytes` where it is declared")
        return written

    def _as_it_is(self, value: object) -> bytes:
        if not isinstance(value, bytes):
            msg = f"a value for the {self._owner} is not bytes, but {type(value).__name__}"
            raise NotSerialisable(msg, hint="give it bytes, or another type where it is declared")
        return value

    def _as_json(self, value: object) -> bytes:
        if self._adapter is None and isinstance(value, bytes):
            msg = f"a value for the {self._owner} is bytes, which JSON cannot hold"
            raise NotSerialisable(msg, hint="say so where it is declared: `type=bytes`")
        try:
            if self._adapter is None:
                return to_json(value, inf_nan_mode="constants")
            given = cast("T", value)
            written = self._adapter.dump_json(given, by_alias=False, round_trip=True, warnings="error")
            if b"null" not in written:
                return written
            # A model writes a number that is none, or has no end, as null, and could not read that.
            plain = self._adapter.dump_python(given, mode="json", by_alias=False, round_trip=True)
            return to_json(plain, inf_nan_mode="constants")
        except (ValueError, TypeError, RecursionError) as error:
            msg = f"a value for the {self._owner}, of the type {type(value).__name__}, cannot be written as JSON"
            hint = "give what is of the declared type, and only what JSON can hold; the cause says what is not"
            raise NotSerialisable(msg, hint=hint) from error

    def decode(self, written: bytes) -> T:
        """
        Read a value.

        Raises:
            Unreadable: It is not of the type.
        """
        try:
            if self._adapter is not None:
                return self._adapter.validate_json(written, by_alias=False, by_name=True)
            read: Any = written if self._is_bytes else from_json(written)
        except (ValidationError, ValueError) as error:
            msg = f"what is kept for the {self._owner} cannot be read: {_first_line(error)}"
            raise Unreadable(msg) from error
        return cast("T", read)


def _adapter(owner: str, kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 (any type)
    try:
        try:
            return TypeAdapter(kind, config=ConfigDict(ser_json_inf_nan="constants"))
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":  # a model has a configuration of its own
                raise
            return TypeAdapter(kind)
    except (PydanticUserError, NameError, TypeError) as error:
        msg = f"the values of the {owner} cannot be of the type {kind!r}: {_first_line(error)}"
        raise DeclarationError(msg, hint="use what FastAPI takes as a body: a Pydantic model, `list[int]`") from error


def checked_key(owner: str, key: str) -> str:
    """
    Give a key that an engine can keep.

    Raises:
        StateTooLarge: It is longer than `LARGEST_KEY`.
        NotSerialisable: It is not text that UTF-8 can write.
    """
    try:
        length = len(key.encode())
    except (AttributeError, UnicodeEncodeError):
        msg = f"a key for the {owner} is not text that UTF-8 can write: {key!r}"
        raise NotSerialisable(msg, hint="use a `str`") from None
    if length > LARGEST_KEY:
        msg = f"a key for the {owner} has {length} bytes, more than {LARGEST_KEY}"
        raise StateTooLarge(msg, path=[f"{key[:40]}…"], hint="use a digest of it, such as SHA-256")
    return key


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def kind_of_values(handle: object, given: Any) -> Any:  # noqa: ANN401 (any type)
    """Give the type of a handle's values: the given one, else that of its brackets, as in ``Cache[User](…)``."""
    written = getattr(handle, "__orig_class__", None)
    if given is None and written is not None and not isinstance(get_args(written)[0], TypeVar):
        return get_args(written)[0]
    return given
