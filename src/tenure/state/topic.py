"""`Topic`: what is published reaches all who are subscribed, and who may have missed something is told so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Generic, overload

from typing_extensions import TypeVar

from tenure.errors import DeclarationError
from tenure.state.engine_handles import EngineHandle
from tenure.state.engines import LARGEST_VALUE, MISSED, Missed
from tenure.state.handles import positive
from tenure.state.stores.mailbox import BUFFERED_BYTES
from tenure.state.values import Unreadable, Values, kind_of_values

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from tenure.scopes import ScopeName
    from tenure.state.engine import Engine

logger = logging.getLogger("tenure")

T = TypeVar("T", default=Any)


class Messages(Generic[T]):
    """The messages of one subscription, each as a copy of what was published."""

    def __init__(self, received: AsyncIterator[bytes | Missed], values: Values[T]) -> None:
        self._received = received
        self._values = values

    def __aiter__(self) -> Messages[T]:
        return self

    async def __anext__(self) -> T | Missed:
        received = await anext(self._received)
        if received is MISSED:
            return MISSED
        try:
            return self._values.decode(received)
        except Unreadable as error:
            logger.warning("a message was not read: %s", error, extra={"tenure_event": "message-unreadable"})
            return MISSED


class Subscription(Generic[T]):
    """
    What `subscribe` gives: iterate over it, or enter it and iterate over what that gives.

    Entered, one is subscribed when the block begins and no longer when it ends. Iterated over, from the first step on
    until the loop is left: at once if by an error, and when Python collects the iterator if by ``break``.
    """

    def __init__(self, topic: Topic[T]) -> None:
        self._topic = topic
        self._context: AbstractAsyncContextManager[AsyncIterator[bytes | Missed]] | None = None

    def _begun(self) -> AbstractAsyncContextManager[AsyncIterator[bytes | Missed]]:
        return self._topic._served().subscribe(self._topic._engine_name)  # noqa: SLF001 (its own kind)

    def _read(self, received: AsyncIterator[bytes | Missed]) -> Messages[T]:
        return Messages(received, self._topic._values)  # noqa: SLF001 (its own kind)

    async def __aenter__(self) -> Messages[T]:
        if self._context is not None:
            msg = f"a subscription to the topic `{self._topic.name}` is entered twice at once"
            raise DeclarationError(msg, hint="subscribe for each: `async with topic.subscribe() as messages`")
        self._context = context = self._begun()
        try:
            return self._read(await context.__aenter__())
        except BaseException:
            self._context = None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context, self._context = self._context, None
        if context is not None:
            await context.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncGenerator[T | Missed]:
        async with self._begun() as received:  # its own, so that two may iterate at once
            async for message in self._read(received):
                yield message


class Topic(EngineHandle["Topic[T]"], Generic[T]):
    """
    Sends messages to all who are subscribed at that time.

    Declared once, at module level, and injected as itself: ``Annotated[Topic[int], Depends(counts)]``. For `async`
    code.

    At ``scope="app"`` it reaches the subscribers in the process of a running app; at ``scope="host"`` those in all
    workers of this machine, at ``scope="cluster"`` those on all machines. A subscriber gets a publisher's messages in
    order, each at most once, from when it is subscribed on. Nothing is kept for those who are not.

    Where a subscriber may have missed messages, `MISSED` stands among them: it was slower than 1000 messages or 16 MiB,
    its connection to the engine was gone for a time, or a message was not of the topic's type. What it builds from
    messages, it then builds anew.

    Each subscriber gets a copy of a message, at ``scope="app"`` too.

    Args:
        name: What logs and errors call it; unique within an app, without colons, at most 120 bytes.
        scope: Who shares it.
        max_bytes: How large a message may be, as JSON.
        type: What messages are, which Pydantic checks on both ends: a model, `list[int]`, `bytes` as they are. Without
            one, a message comes back as JSON has it: a tuple as a list, a date as text.

    Raises:
        DeclarationError: The name, scope or size cannot be.
    """

    noun: ClassVar[str] = "topic"

    @overload
    def __init__(self, name: str, *, scope: ScopeName, max_bytes: int = ..., type: None = ...) -> None: ...
    @overload
    def __init__(self, name: str, *, scope: ScopeName, max_bytes: int = ..., type: type[T]) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        scope: ScopeName,
        max_bytes: int = LARGEST_VALUE,
        type: Any = None,  # noqa: A002 (the word for it)
    ) -> None:
        super().__init__(name, scope)
        positive(f"topic `{name}`", max_bytes=max_bytes)
        if max_bytes > BUFFERED_BYTES:
            msg = f"the topic `{name}` has messages of {max_bytes} bytes, more than are kept for a subscriber"
            raise DeclarationError(msg, hint=f"send less at once, at most {BUFFERED_BYTES} bytes, or where it is kept")
        self._type = type
        self._max_bytes = max_bytes
        self._engine_name = f"topic:{name}"

    def _begin(self, engine: Engine) -> None:
        super()._begin(engine)
        self._values: Values[T] = Values(f"topic `{self.name}`", kind_of_values(self, self._type), self._max_bytes)

    async def publish(self, message: T) -> None:
        """
        Send a message to all who are subscribed now.

        Raises:
            NotSerialisable: It is not of the topic's type.
            StateTooLarge: It is larger than `max_bytes`.
            StateUnavailable: The engine does not answer; whether it was sent is not known.
            NotStarted: This is the declaration; what is injected can publish.
            AlreadyClosed: Its app has closed it.
        """
        await self._served().publish(self._engine_name, self._values.encode(message))

    def subscribe(self) -> Subscription[T]:
        """
        Receive what is published: ``async with topic.subscribe() as messages``, then ``async for message in messages``.

        Shorter, ``async for message in topic.subscribe()`` is subscribed from its first step on. The iteration ends
        when the app closes.

        Returns:
            Messages, and `MISSED` where some may have been lost.

        Raises:
            NotStarted: On entering, this is the declaration; what is injected can be subscribed to.
            AlreadyClosed: On entering, its app has closed it.
            StateUnavailable: On entering, its engine does not answer.
        """
        return Subscription(self)
