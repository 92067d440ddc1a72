"""Dependencies and handlers of generated apps: each way to write one, telling all that happens in it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from anyio import BrokenResourceError, CancelScope
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from fastapi.security import SecurityScopes
from pydantic import BaseModel

if TYPE_CHECKING:
    from fastapi import WebSocket

    from tests.core.generated_designs import Declaration

Call = Callable[..., Any]
FIRST = Parameter("first", Parameter.POSITIONAL_ONLY)


class Record:
    """What happens in one request, or in an app beside its requests; its name is in all that it makes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[tuple[object, ...]] = []
        self.made: Counter[int] = Counter()
        self.waits = asyncio.Event()
        self.client_left = asyncio.Event()
        self.is_streaming = False


here: ContextVar[Record] = ContextVar("here")
"""What happens now belongs to this record, in whichever task or thread."""
variable: ContextVar[tuple[int, ...]] = ContextVar("variable", default=())
"""Set by some dependencies, to be seen by what comes after them."""


def note(what: str, *more: object) -> None:
    """Note what happens, where, and what a variable of its context holds then."""
    place = "on the loop" if threading.current_thread() is threading.main_thread() else "in a thread"
    here.get().log.append((what, *more, place, variable.get()))


def told(value: object) -> object:
    """Give a value as a log tells it: the same each time, and which of several it is."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, SecurityScopes):
        return sorted(
            set(value.scopes)
        )  # older versions of FastAPI repeat them, once more where anything is overridden
    if value is None or isinstance(value, str | int | list):
        return value
    return getattr(value, "label", type(value).__name__)


def told_error(error: BaseException | None, depth: int = 5) -> object:
    """Give an error with all that it came from."""
    if error is None or not depth:
        return None
    # FastAPI knows an endpoint's place by its id, which an app that is gone may have had; AnyIO names what cancels.
    text = re.sub(r"0x[0-9a-f]+|File .*, line .*|cancel scope [0-9a-f]+.*|\(\d+ sub-.*", "…", str(error))
    # How far events had been made when something else failed is in no certain order.
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else []
    within = [told_error(each, depth - 1) for each in errors if not isinstance(each, BrokenResourceError)]
    causes = [told_error(each, depth - 1) for each in (error.__cause__, error.__context__)]
    return [type(error).__name__, text, within, causes, error.__suppress_context__, getattr(error, "__notes__", [])]


def go_wrong(behaviour: str, when: str) -> None:
    """Raise, or refuse with an answer, if that is the behaviour at this time."""
    if behaviour == f"raises {when}".strip():
        msg = f"raised {when}"
        raise LookupError(msg)
    if behaviour == f"refuses {when}".strip():
        raise HTTPException(418, f"refused {when}")


async def wait() -> None:
    """Wait until the client of a request leaves; what starts with an app does not wait."""
    record = here.get()
    if record.client_left.is_set():
        return
    note("waits")
    record.waits.set()
    await asyncio.Event().wait()


def signed(function: Call, signature: Signature, *first: Parameter) -> Call:
    """Give a function that takes keywords a signature that FastAPI reads."""
    target: Any = function
    target.__signature__ = signature.replace(parameters=[*first, *signature.parameters.values()])
    return target  # type: ignore[no-any-return]


class Maker:
    """What a dependency does, in whichever way it is written."""

    def __init__(self, number: int, declaration: Declaration) -> None:
        self.yields = {"does not yield": 0, "yields twice": 2}.get(declaration.behaviour, 1)
        self._number = number
        self._behaviour = declaration.behaviour

    def begin(self, taken: dict[str, Any]) -> Any:
        """Make a value that says which it is, or fail to."""
        record = here.get()
        record.made[self._number] += 1
        value = [self._number, record.made[self._number], record.name]
        note("enters", value, sorted((name, told(each)) for name, each in taken.items()))
        self._use(taken)
        go_wrong(self._behaviour, "before")
        return None if self._behaviour == "gives nothing" else value

    async def begin_async(self, taken: dict[str, Any]) -> Any:
        """Make a value on the event loop, where its context is the request's."""
        await asyncio.sleep(0)
        value = self.begin(taken)
        if self._behaviour == "sets a variable":
            variable.set((*variable.get(), self._number))
        if self._behaviour == "waits":
            await wait()
        return value

    def _use(self, taken: dict[str, Any]) -> None:
        if (response := taken.get("response")) is not None:
            response.headers.append("x-number", str(self._number))
            if self._number % 3 == 0:
                response.status_code = 202
        if (tasks := taken.get("tasks")) is not None:
            tasks.add_task(note, "works in the background", self._number)

    @contextmanager
    def ending(self, value: object) -> Iterator[None]:
        """Note how a value ends, and go wrong there."""
        try:
            yield
        except GeneratorExit:  # collected at whatever time, as older versions of FastAPI leave it when a client leaves
            raise
        except BaseException as error:
            note("sees", self._number, value, told_error(error))
            note("exits", self._number, value)
            if self._behaviour == "replaces":
                raise HTTPException(409, "replaced") from error
            if self._behaviour != "swallows" or not isinstance(error, Exception):
                raise
        else:
            note("exits", self._number, value)
        go_wrong(self._behaviour, "after")

    def holding(self) -> AbstractContextManager[object]:
        """Give what a value holds open on the event loop."""
        return CancelScope() if self._behaviour == "holds a scope" else nullcontext()


def written(way: str, maker: Maker, signature: Signature) -> Callable[[], Call]:
    """Write a dependency, and give what gives it each time that it is named: a method is another object then."""
    if way in {"class", "context", "async context"}:
        target = signed(_class(way, maker), signature)
        return lambda: target
    kind = ("async " if "async" in way else "") + ("generator" if "generator" in way else "function")
    is_bound = any(word in way for word in ("method", "partial", "callable"))
    function = signed(_functions(maker)[kind], signature, *([FIRST] if is_bound else []))
    if "partial" in way:
        function = partial(function, None)
    elif "callable" in way:
        function = type("Callable", (), {"__call__": function})()
    elif "method" in way:
        owner: Any = type("Owner", (), {"method": function})()
        return lambda: owner.method  # type: ignore[no-any-return]
    return lambda: function


def _functions(maker: Maker) -> dict[str, Call]:
    """Write functions whose first parameter is there for an object or a partial to fill, if it is one's."""

    def function(_: object = None, /, **taken: Any) -> Any:
        return maker.begin(taken)

    async def async_function(_: object = None, /, **taken: Any) -> Any:
        return await maker.begin_async(taken)

    def generator(_: object = None, /, **taken: Any) -> Iterator[Any]:
        value = maker.begin(taken)
        if maker.yields:
            with maker.ending(value):
                yield value
        if maker.yields > 1:
            yield value

    async def async_generator(_: object = None, /, **taken: Any) -> AsyncIterator[Any]:
        value = await maker.begin_async(taken)
        if maker.yields:
            with maker.ending(value), maker.holding():
                yield value
                await asyncio.sleep(0)
        if maker.yields > 1:
            yield value

    kinds: list[Call] = [function, async_function, generator, async_generator]
    return {kind.__name__.replace("_", " "): kind for kind in kinds}


def _class(way: str, maker: Maker) -> Any:
    functions = _functions(maker)

    class Value:
        """An object that is itself the value."""

        def __init__(self, **taken: Any) -> None:
            self.label = maker.begin(taken)

    class Context:
        """A context manager that gives the value."""

        def __init__(self, **taken: Any) -> None:
            self._context: Any = contextmanager(functions["generator"])(**taken)

        def __enter__(self) -> Any:
            return self._context.__enter__()

        def __exit__(self, *error: object) -> bool | None:
            return self._context.__exit__(*error)  # type: ignore[no-any-return]

    class AsyncContext:
        """The same, asynchronous."""

        def __init__(self, **taken: Any) -> None:
            self._context: Any = asynccontextmanager(functions["async generator"])(**taken)

        async def __aenter__(self) -> Any:
            return await self._context.__aenter__()

        async def __aexit__(self, *error: object) -> bool | None:
            return await self._context.__aexit__(*error)  # type: ignore[no-any-return]

    return {"class": Value, "context": Context, "async context": AsyncContext}[way]


class Handler:
    """What a route does."""

    def __init__(self, does: str) -> None:
        self._does = does

    def endpoint(self, *, is_sync: bool) -> Call:
        """Write it for HTTP."""

        def sync_handler(**taken: Any) -> Any:
            return self._answer(taken)

        async def handler(**taken: Any) -> Any:
            answer = self._answer(taken)
            if self._does == "waits":
                await wait()
            return answer

        def sync_lines(**taken: Any) -> Iterator[Any]:
            yield self._answer(taken)
            yield from self._told("one", "two")

        async def lines(**taken: Any) -> AsyncIterator[Any]:
            yield self._answer(taken)
            for each in self._told("one", "two"):
                yield each

        if self._does in {"gives lines", "gives events"}:
            return sync_lines if is_sync else lines
        return sync_handler if is_sync else handler

    def socket(self) -> Call:
        """Write it for websockets."""

        async def socket(websocket: WebSocket, **taken: Any) -> None:
            await websocket.accept()
            await websocket.send_json(self._seen(taken))
            go_wrong(self._does, "")
            if "waits" in self._does:
                await wait()
            await websocket.close()

        return socket

    def _seen(self, taken: dict[str, Any]) -> list[Any]:
        seen = sorted((name, told(each)) for name, each in taken.items())
        self._note("handles", seen)
        return seen

    def _note(self, what: str, more: object) -> None:
        if self._does != "gives events":  # made while the ones before are sent, and others end: in no certain order
            note(what, more)

    def _answer(self, taken: dict[str, Any]) -> Any:
        seen = self._seen(taken)
        if (response := taken.get("response")) is not None:
            response.headers["x-handler"] = "1"
        if (tasks := taken.get("tasks")) is not None:
            tasks.add_task(note, "works after the handler")
        go_wrong(self._does, "")
        if self._does.startswith("streams"):
            return StreamingResponse(self._streamed())
        return seen

    def _told(self, *parts: str) -> Iterator[str]:
        for part in parts:
            self._note("streams", part)
            yield part

    async def _streamed(self) -> AsyncIterator[str]:
        for part in self._told("one", "two"):
            yield part
        if self._does.endswith("waits"):
            here.get().is_streaming = True
            await wait()
