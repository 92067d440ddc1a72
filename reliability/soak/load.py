"""Clients of roster that read, write, search, count, watch, and leave in the middle, each at its own pace."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import httpx

from reliability.soak.ledger import Ledger
from reliability.soak.outcomes import BROKEN, LATE, LEFT, WRONG, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CLIENTS = 32
VIEWERS = 8
TIMEOUT = 30
"""Seconds for which a client waits for an answer."""
OPERATIONS = {
    "GET /users/{id}": 36,
    "GET /users": 18,
    "GET /stats": 14,
    "PATCH /users/{id}": 11,
    "POST /users": 9,
    "DELETE /users/{id}": 8,
    "leave": 3,
    "GET /users/search": 1,
}
"""What a client does, and how often in a hundred."""
RECONNECT = 0.03
"""The part of requests after which a client closes its connection, so that all workers are asked."""
QUESTIONS = ("someone who helps sick kids", "music", "software", "food and drink", "the sea", "old houses")
LIVE = "GET /stats/live"


class Load:
    """
    All clients, in the event loop in which it was entered.

    Attributes:
        outcomes: What became of each request so far.
        errors: Those of them that failed.
        ledger: What was written.
        counts_sent: How often the count was asked for, which adds one to it.
        counts_answered: How often it was answered.
    """

    def __init__(self, url: str, rate: float, seed: int) -> None:
        self.url = url
        self.outcomes: list[Outcome] = []
        self.errors: list[Outcome] = []
        self.ledger = Ledger()
        self.counts_sent = self.counts_answered = 0
        self.in_flight = 0
        self._pace = rate / CLIENTS
        self.seed = seed
        self._goes = asyncio.Event()
        self._watched: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Ask until the block ends."""
        self._goes.set()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(Client(self, number).work()) for number in range(CLIENTS)]
            tasks += [group.create_task(self._watch(random.Random(f"{self.seed} v{n}"))) for n in range(VIEWERS)]  # noqa: S311
            yield
            for task in tasks:
                task.cancel()

    async def pause(self) -> None:
        """Send nothing more, leave the streams, and wait until all that was sent is answered."""
        self._goes.clear()
        for watched in self._watched:
            if not watched.expired():
                watched.reschedule(asyncio.get_running_loop().time())
        while self.in_flight:
            await asyncio.sleep(0.05)

    def go_on(self) -> None:
        """Send again."""
        self._goes.set()

    async def until_going(self) -> None:
        """Wait while there is a pause."""
        await self._goes.wait()

    async def turn(self, chance: random.Random, last: float) -> float:
        """Wait for the next moment of one client, and give it."""
        moment = max(time.monotonic(), last + chance.expovariate(self._pace))
        await asyncio.sleep(moment - time.monotonic())
        await self.until_going()
        return moment

    def note(self, operation: str, error: str, asked: float) -> None:
        """Note what became of a request."""
        outcome = Outcome(operation, error, asked, time.monotonic())
        self.outcomes.append(outcome)
        if outcome.failed:
            self.errors.append(outcome)

    async def leave(self, chance: random.Random) -> None:
        """Send a request that takes a while, and break the connection before it is answered, or just after."""
        asked = time.monotonic()
        path = chance.choice(
            ("/users?limit=1000", f"/users/search?q=someone+with+number+{chance.random()}", "/stats/live")
        )
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: roster\r\n\r\n".encode())
            await asyncio.sleep(chance.uniform(0, 0.03))
            writer.transport.abort()
        self.note("leave", LEFT, asked)

    async def _watch(self, chance: random.Random) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT, verify=False) as client:  # noqa: S501 (no TLS)
            while True:
                await self.until_going()
                asked = time.monotonic()
                self.in_flight += 1
                try:
                    error = await self._stream(client, chance.uniform(1, 15))
                finally:
                    self.in_flight -= 1
                # It is held against the faults of the moment at which it broke, however long it had been watched.
                self.note(LIVE, error, time.monotonic() if error else asked)
                await asyncio.sleep(1 if error else chance.uniform(0, 1))

    async def _stream(self, client: httpx.AsyncClient, seconds: float) -> str:
        try:
            async with client.stream("GET", "/stats/live") as answer:
                if not answer.is_success:
                    return str(answer.status_code)
                async with asyncio.timeout(seconds if self._goes.is_set() else 0) as watched:
                    self._watched.add(watched)
                    try:
                        return await _follow(answer)
                    finally:
                        self._watched.discard(watched)
        except TimeoutError:
            return ""  # it was watched for long enough
        except httpx.TimeoutException:
            return LATE
        except httpx.TransportError:
            return BROKEN


async def _follow(answer: httpx.Response) -> str:
    shown = -1
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            count = json.loads(line.removeprefix("data: "))["total_requests"]
            if count <= shown:
                return WRONG
            shown = count
    return BROKEN  # a stream has no end of its own


class Client:
    """One client, with users of its own, whom nobody else writes."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._made = 0
        self._chance = random.Random(f"{load.seed} {number}")  # noqa: S311 (an order that can be had again)
        self._users: dict[str, int] = {}

    async def work(self) -> None:
        """Ask one thing after another."""
        moment = time.monotonic()
        kinds, weights = list(OPERATIONS), list(OPERATIONS.values())
        async with httpx.AsyncClient(base_url=self._load.url, timeout=TIMEOUT, verify=False) as self._http:  # noqa: S501
            while True:
                moment = await self._load.turn(self._chance, moment)
                [kind] = self._chance.choices(kinds, weights)
                self._load.in_flight += 1
                try:
                    await self._do(kind)
                finally:
                    self._load.in_flight -= 1

    async def _do(self, kind: str) -> None:
        if "{id}" in kind and not self._users:
            kind = "POST /users"
        match kind:
            case "POST /users":
                await self._add()
            case "PATCH /users/{id}":
                await self._change()
            case "DELETE /users/{id}":
                await self._remove()
            case "GET /users/{id}":
                username = self._any()
                email = self._load.ledger.email(username)
                await self._ask(kind, 200, path=f"/users/{self._users[username]}", email=email)
            case "GET /users":
                await self._ask(kind, 200, path="/users?limit=20")
            case "GET /users/search":
                await self._ask(kind, 200, path=f"/users/search?q={self._chance.choice(QUESTIONS)}&limit=3")
            case "GET /stats":
                self._load.counts_sent += 1
                if await self._ask(kind, 200) is not None:
                    self._load.counts_answered += 1
            case _:
                await self._load.leave(self._chance)

    async def _add(self) -> None:
        self._made += 1
        username = f"soak-{self._number}-{self._made}"
        email = f"{username}@example.com"
        self._load.ledger.send(username, email)
        user = {"username": username, "email": email, "bio": f"Number {self._made} of client {self._number}."}
        answer = await self._ask("POST /users", 201, json=user)
        if answer is not None:
            self._load.ledger.acknowledge(username)
            self._users[username] = answer.json()["id"]

    async def _change(self) -> None:
        username = self._any()
        self._made += 1
        email = f"{username}.{self._made}@example.com"
        number = self._users.pop(username)
        self._load.ledger.send(username, email)
        if await self._ask("PATCH /users/{id}", 200, path=f"/users/{number}", json={"email": email}) is not None:
            self._load.ledger.acknowledge(username)
            self._users[username] = number

    async def _remove(self) -> None:
        username = self._any()
        number = self._users.pop(username)
        self._load.ledger.send(username, None)
        if await self._ask("DELETE /users/{id}", 204, path=f"/users/{number}") is not None:
            self._load.ledger.acknowledge(username)

    def _any(self) -> str:
        return self._chance.choice(list(self._users))

    async def _ask(
        self, kind: str, status: int, *, path: str = "", json: object = None, email: str | None = None
    ) -> httpx.Response | None:
        """Ask, note what became of it, and give the answer if it is what it should be."""
        method, _, usual = kind.partition(" ")
        headers = {"Connection": "close"} if self._chance.random() < RECONNECT else {}
        asked = time.monotonic()
        answer = None
        try:
            answer = await self._http.request(method, path or usual, json=json, headers=headers)
            error = "" if answer.status_code == status else str(answer.status_code)
            if not error and email is not None and answer.json()["email"] != email:
                error = WRONG
        except httpx.TimeoutException:
            error = LATE
        except httpx.TransportError:
            error = BROKEN
        self._load.note(kind, error, asked)
        return None if error else answer
