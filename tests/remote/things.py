"""Classes whose objects live in a process of their own, for the tests to call."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import numpy as np
from fastapi import Depends, FastAPI, HTTPException
from numpy.typing import NDArray
from pydantic import BaseModel

from tenure import Counter, lifespan, scoped
from tenure.remote import Remote, hosted, idempotent


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: float


class Booking(BaseModel):
    """A model, in which others lie."""

    id: UUID
    at: datetime
    points: tuple[Point, ...]


class Unpaid(Exception):
    """An error of the program's own, with what it is about."""

    def __init__(self, amount: int, *, currency: str) -> None:
        super().__init__(f"{amount} {currency}")
        self.currency = currency


def here(name: str) -> Path:
    """Give a file of the test's folder."""
    return Path(os.environ["XDG_RUNTIME_DIR"], name)


@scoped("app")
async def opened() -> AsyncIterator[list[str]]:
    """Note where it was opened and closed: an app-scoped resource that an object takes lives with it."""
    with here("opened").open("a") as notes:
        notes.write(f"{os.getpid()}\n")
    yield ["opened"]
    with here("closed").open("a") as notes:
        notes.write(f"{os.getpid()}\n")


made = Counter("made", scope="host")


@hosted(threads=2, max_waiting=40)
class Thing:
    """What is called."""

    def __init__(self, opened: Annotated[list[str], Depends(opened)], made: Annotated[Counter, Depends(made)]) -> None:
        here("starting").touch()
        while here("not yet").exists():
            time.sleep(0.005)
        self.opened = opened
        self.number = made.add()
        self.calls = 0
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def process(self) -> int:
        """Tell in which process it lives."""
        return os.getpid()

    def origin(self) -> tuple[list[str], int]:
        """Tell what it was made of, and which one it is."""
        return self.opened, self.number

    def greet(self, name: str, *, loud: bool = False) -> str:
        """Greet."""
        return f"hello {name}{'!' if loud else ''}"

    async def later(self, booking: Booking, point: Point) -> Booking:
        """Put a point at the end of a booking."""
        assert isinstance(booking, Booking)
        assert isinstance(point, Point)
        return booking.model_copy(update={"points": (*booking.points, point), "at": datetime.now(UTC)})

    def echo(self, value: Any) -> Any:
        """Give a value back, as it has come."""
        return value

    def doubled(self, array: NDArray[Any]) -> NDArray[Any]:
        """Change an array where it lies, and give it back."""
        array *= 2
        return array

    def count(self) -> int:
        """Count calls."""
        with self._lock:
            self.calls += 1
            return self.calls

    def hold(self, name: str) -> int:
        """Wait for a file, and tell how many did so at once at most."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        with here("began").open("a") as notes:
            notes.write(f"{name}\n")
        deadline = time.monotonic() + 20
        while not here(name).exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        with self._lock:
            self.running -= 1
            return self.most

    async def wait(self, name: str) -> None:
        """Wait until cancelled, and note how it ended."""
        here(f"{name} began").touch()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            here(f"{name} cancelled").touch()
            raise

    @idempotent
    async def patiently(self, name: str) -> int:
        """Wait until there is a file, and tell the process: twice is as good as once."""
        here(f"{name} began").touch()
        while not here(name).exists():
            await asyncio.sleep(0.005)
        return os.getpid()

    def unpaid(self) -> None:
        """Raise an error of the program's own."""
        raise Unpaid(3, currency="EUR")

    def not_found(self) -> None:
        """Raise what FastAPI answers."""
        raise HTTPException(404, "no such thing", {"X-Thing": "none"})

    def strange(self) -> None:
        """Raise an error whose class no other process can know."""

        class Strange(Exception):
            """Written in a function."""

        msg = "very"
        raise Strange(msg)

    def no_data(self) -> object:
        """Give what is no data."""
        return threading.Lock()

    async def words(self, count: int) -> AsyncIterator[str]:
        """Give words."""
        try:
            for number in range(count):
                here("words").write_text(str(number))
                yield f"word {number}"
        finally:
            here("words ended").touch()

    async def stuck(self) -> AsyncIterator[int]:
        """Give one number, and no other."""
        try:
            yield 1
            await asyncio.sleep(20)
        finally:
            here("stuck ended").touch()

    def points(self, count: int) -> Iterator[Point]:
        """Give points, in a thread."""
        for number in range(count):
            yield Point(number, number / 2)

    async def broken(self) -> AsyncIterator[int]:
        """Give one number and fail."""
        yield 1
        msg = "two is too many"
        raise ValueError(msg)

    def total(self, array: NDArray[np.float64]) -> float:
        """Add up."""
        return float(array.sum())

    def _secret(self) -> str:
        return "not for others"


thing = scoped("host")(Thing)
TheThing = Annotated[Remote[Thing], Depends(thing)]

app = FastAPI(lifespan=lifespan(deployment="things"))


@app.get("/greet")
async def greet(thing: TheThing, name: str) -> str:
    """Greet by the object of all workers."""
    return await thing(Thing.greet, name, loud=True)


@app.get("/processes")
async def processes(thing: TheThing) -> tuple[int, int]:
    """Tell the worker's process and the object's."""
    return os.getpid(), await thing(Thing.process)


@app.get("/count")
async def count(thing: TheThing) -> int:
    """Count."""
    return await thing(Thing.count)


@app.get("/not-found")
async def not_found(thing: TheThing) -> None:
    """Raise in the object's process what is answered here."""
    await thing(Thing.not_found)


@app.get("/hold")
async def hold(thing: TheThing, name: str, seconds: float = 30) -> int:
    """Hold a thread of the object's."""
    return await thing.within(seconds)(Thing.hold, name)
