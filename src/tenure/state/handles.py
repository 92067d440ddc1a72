"""What all handles of shared state have in common: declared once, injected as themselves."""

from __future__ import annotations

import sys
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tenure.calls import place
from tenure.errors import AlreadyClosed, DeclarationError, NotRunning, NotStarted
from tenure.resources import Resource
from tenure.state.deployments import lacking
from tenure.state.stores import NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import FrameType

    from tenure.scopes import ScopeName

T_co = TypeVar("T_co", covariant=True)


class Handle(Resource[T_co]):
    """
    Shared state, declared once and injected as itself: the declaration keeps nothing, what is injected does.

    Attributes:
        noun: What errors call one of this kind.
        does: What it does, and as declared does not.
    """

    noun: ClassVar[str]
    does: ClassVar[str] = "keeps"

    def __init__(self, name: str, scope: ScopeName, begin: Callable[..., AsyncGenerator[Any]]) -> None:
        self._refuse_no_name(name)
        if len(name.encode(errors="surrogatepass")) > NAME_BYTES:
            msg = f"the name of the {self.noun} `{name}` is longer than {NAME_BYTES} bytes"
            raise DeclarationError(msg, hint="give it a shorter one")
        if scope in {"function", "request"}:
            msg = f"the {self.noun} `{name}` has the scope {scope!r}, in which nothing is shared"
            raise DeclarationError(msg, hint='share it within one process: `scope="app"`')
        self._is_closed = False
        super().__init__(begin, scope=scope, name=name, location=self._declared_at())
        self.__doc__ = type(self).__doc__

    def _refuse_no_name(self, name: Any) -> None:  # noqa: ANN401 (what a program gives)
        if not isinstance(name, str) or not name:
            msg = f"a {self.noun} needs a name" if name == "" else f"a {self.noun} needs a name, not {name!r}"
            raise DeclarationError(msg, hint=self._example())

    @classmethod
    def _example(cls) -> str:
        return f'write `{cls.__name__}("orders", scope="app")`'

    def _declared_at(self) -> str | None:
        """Give the line that findings are to name: the first that is no constructor of this handle."""
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (there is no other way to ask)
        while frame and (frame.f_locals.get("self") is self or frame.f_globals.get("__name__") == "typing"):
            frame = frame.f_back  # `Cache[User](…)` goes by way of typing
        return place(frame.f_code.co_filename, frame.f_lineno) if frame else None

    @property
    def is_done_once(self) -> bool:
        """Not: each process has a handle of its own on what is shared."""
        return False

    def lacks(self, state: str | None) -> str:
        """Say what would serve its scope, when nothing does."""
        return lacking(self.scope, state)

    def _unusable(self) -> NotRunning:
        """Give the error of a use before the start or after the close."""
        if self._is_closed:
            msg = f"the {self.noun} `{self.name}` was used after its app had closed it"
            return AlreadyClosed(msg, hint="end what uses it, such as a background task, before the app shuts down")
        msg = f"the {self.noun} `{self.name}` was used as declared, where it {self.does} nothing"
        inject = f"inject it: `Annotated[{type(self).__name__}, Depends({self.name})]`"
        return NotStarted(msg, hint=f"{inject}; outside of requests, `await scope.get({self.name})`")


def positive(owner: str, **seconds: float | None) -> None:
    """
    Refuse what is given and no number above 0; `math.inf` is one.

    Raises:
        DeclarationError: One of them is not; the message names it.
    """
    for word, number in seconds.items():
        if number is None:
            continue
        if not isinstance(number, Real):
            msg = f"{word}={number!r} of the {owner} is no number"
            raise DeclarationError(msg, hint="give times in seconds, and sizes in bytes")
        if not number > 0:
            msg = f"{word}={number} of the {owner} is not above 0"
            raise DeclarationError(msg)
