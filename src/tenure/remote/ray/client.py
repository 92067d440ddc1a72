"""The worker's side: calls of the actor in which an object lives, and the wait for it while Ray starts it anew."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError, RayActorError, RayError

from tenure.remote.calling import Calling, Overdue, died
from tenure.remote.errors import OwnerDied, RemoteError
from tenure.remote.failures import made_anew
from tenure.remote.ray.cluster import ray
from tenure.remote.wire import What, packed, unframed
from tenure.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tenure.remote.ray.actors import Actor

logger = logging.getLogger("tenure")

POLL = 0.05
"""Seconds between two looks whether Ray has started the actor anew."""
BEAT = 2.0
"""Seconds between two signs of life to a stream, which ends without them: Ray tells no actor that a caller died."""


class _Connection:
    """An actor, as long as it is not known to have died."""

    def __init__(self, name: str, actor: Actor) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self.actor = actor
        self.is_open = True

    def close(self) -> None:
        """Call off what is under way."""
        self.is_open = False
        if not self._closed.done():
            self._closed.set_result(None)

    async def call(self, order: list[Any], until: float) -> Any:  # noqa: ANN401 (any value)
        """
        Give what a call gives; one that is cancelled is called off there too.

        Raises:
            Overdue: There was no answer at that time of the event loop.
            NotBegun: It has not run, and another connection is to be called.
        """
        # It is told how long it may take, for when this process is gone and does not call it off.
        content = packed(What.CALL, [*order, until - self._loop.time()])
        return _result(await self._answer(until, self.actor.call, content))

    async def stream(self, order: list[Any], seconds: float) -> AsyncGenerator[Any]:
        """
        Give what a call gives, one by one; an iteration that is left is called off there too.

        Raises:
            Overdue: An item was not there so many seconds after it was asked for.
            NotBegun: It has not run, and another connection is to be called.
        """
        number, is_over, content = uuid4().hex, False, packed(What.CALL, order)
        alive = asyncio.create_task(self._stay(number))
        try:
            while True:
                frames = await self._answer(self._loop.time() + seconds, self.actor.stream, number, content)
                content = b""
                for frame in frames:
                    what, _, value = unframed(frame)
                    is_over = what is not What.ITEM
                    if what is What.END:
                        return
                    if what is What.ERROR:
                        raise made_anew(value)
                    yield value
        finally:
            alive.cancel()
            if not is_over and not self._closed.done():  # past its end there may be no Ray to call
                self.actor.leave.remote(number)

    async def _stay(self, number: str) -> None:
        await asyncio.sleep(BEAT)
        while not self._closed.done():
            self.actor.stay.remote(number)
            await asyncio.sleep(BEAT)

    async def _answer(self, until: float, method: Any, *arguments: object) -> Any:  # noqa: ANN401 (Ray's)
        called = method.remote(*arguments)
        answer = asyncio.wrap_future(called.future())
        try:
            patience = until - self._loop.time()
            await asyncio.wait([answer, self._closed], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if not self._closed.done():
                raise Overdue
        except (RayActorError, ObjectLostError):
            self.is_open = False
        except RayError as error:
            msg = f"Ray could not bring a call to `{self._name}`: {' '.join(str(error).split())}"
            raise RemoteError(msg) from error
        finally:
            if not answer.done():
                answer.cancel()
                with suppress(RayError):
                    ray.cancel(called)
            del called, answer  # whoever keeps an error of this call is not to keep them
        raise died(self._name)


class Client(Calling[_Connection]):
    """
    What calls an object that lives in a Ray cluster. Belongs to one process and event loop.

    Args:
        name: What errors call the object.
        actor_of: Finds its actor, or makes it; blocks.
    """

    def __init__(self, name: str, actor_of: Callable[[], tuple[Actor, bool]]) -> None:
        super().__init__(name)
        self._actor_of = actor_of
        self._connecting = asyncio.Lock()

    async def begin(self) -> dict[str, Any]:
        """
        Have the object made, unless it is there, and tell by which program.

        Raises:
            OwnerDied: Its process ended meanwhile.
            TenureError: It cannot be made; and what its constructor has raised.
        """
        while True:
            actor, is_new = await in_own_thread(self._actor_of)
            told = await self._begun(actor, is_new=is_new)
            if told is not None:
                self._connection = _Connection(self.name, actor)
                return told
            await asyncio.sleep(POLL)

    async def _begun(self, actor: Actor, *, is_new: bool) -> dict[str, Any] | None:
        """Have an actor make the object; one that was told to end does not, and another is to be made after it."""
        try:
            told: dict[str, Any] = _result(await self._started(actor))
        except OwnerDied:
            return None
        except asyncio.CancelledError:
            if is_new:  # it waits for a place
                await _kill(actor)
            raise
        except RayActorError as error:
            if is_new:  # it ends again and again
                await _kill(actor)
            msg = f"the process of `{self.name}` ended while it started: {' '.join(str(error).split())}"
            raise OwnerDied(msg) from error
        except Exception:
            await _kill(actor)
            raise
        return told

    async def _started(self, actor: Actor) -> bytes:
        answer: Awaitable[bytes] = actor.start.remote()
        return await answer

    async def connected(self) -> _Connection:
        """Give the actor, waiting while Ray starts it anew; where it was ended for good, another is made."""
        while self._connection is None or not self._connection.is_open:
            async with self._connecting:
                if self._connection is None or not self._connection.is_open:
                    self._connection = await self._connect(self._connection)
        return self._connection

    async def _connect(self, lost: _Connection | None) -> _Connection:
        actor = lost.actor if lost is not None else None
        while not self._is_closed:
            try:
                if actor is None:
                    actor, _ = await in_own_thread(self._actor_of)
                _result(await self._started(actor))
            except ActorDiedError:
                actor = None
            except OwnerDied:  # it was told to end, and another is made after it
                actor = None
                await asyncio.sleep(POLL)
            except ActorUnavailableError:
                await asyncio.sleep(POLL)
            except Exception as error:
                msg = f"the object of `{self.name}` could not be made anew: {error}"
                raise OwnerDied(msg) from error
            else:
                return _Connection(self.name, actor)
        raise died(self.name)


async def _kill(actor: Actor) -> None:
    """End an actor whose object could not be made: the next start asks anew, and perhaps otherwise."""
    await in_own_thread(lambda: ray.kill(actor))


def _result(frame: bytes) -> Any:  # noqa: ANN401 (any value)
    what, _, value = unframed(frame)
    if what is What.ERROR:
        raise made_anew(value)
    return value
