"""`Lock` of two processes over a real engine, while leases run out, clients are paused, and the engine is wiped."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tenure.errors import LockLost, LockTimeout
from tenure.state.stores.statements import UNMADE
from tests.state.lock_clients import NEVER, THIRD, Block, Client, Failed, nightly

if TYPE_CHECKING:
    from collections.abc import Iterator

# --- what becomes of the engine ---------------------------------------------------------------------------------------


class OutsideValkey:
    """A Valkey, from outside: its clock is not to be set, so leases are shortened instead."""

    def __init__(self, url: str, deployment: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._key = f"tenure:{deployment}:lock:lock:{nightly.name}"

    def is_held(self) -> bool:
        """Tell whether the lock has a holder."""
        return bool(self._client.exists(self._key))

    def pass_by(self, seconds: float) -> None:
        """Let time pass for the lock."""
        self._client.pexpire(self._key, int(self._client.pttl(self._key)) - int(seconds * 1000))

    def wipe(self, *, wholly: bool) -> None:
        """Lose everything, perhaps also what it has been taught."""
        self._client.flushall()
        if wholly:
            self._client.script_flush()

    def close(self) -> None:
        """End the connection."""
        self._client.close()


class OutsidePostgres:
    """A PostgreSQL, from outside: likewise."""

    def __init__(self, url: str, deployment: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url))
        self._deployment = deployment

    def _ask(self, statement: str, *arguments: object) -> int:
        """Do something, and give how many rows it was done with; none, where the tables are gone."""
        try:
            return len(self._runner.run(self._connection.fetch(statement, *arguments)))
        except UNMADE:
            return 0

    def is_held(self) -> bool:
        """Tell whether the lock has a holder."""
        rows = "SELECT FROM tenure.state_locks WHERE deployment = $1 AND expires > now()"
        return bool(self._ask(rows, self._deployment))

    def pass_by(self, seconds: float) -> None:
        """Let time pass for the lock."""
        shorter = "UPDATE tenure.state_locks SET expires = expires - make_interval(secs => $2) WHERE deployment = $1"
        self._ask(shorter, self._deployment, seconds)

    def wipe(self, *, wholly: bool) -> None:
        """Lose everything, perhaps the tables as well."""
        self._ask("DROP SCHEMA tenure CASCADE" if wholly else "TRUNCATE tenure.state_locks, tenure.state_tokens")

    def close(self) -> None:
        """End the connection."""
        self._runner.run(self._connection.close())
        self._runner.close()


# --- the machine ------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Two clients and their engine, which all examples share: so tokens are to rise over all of them."""

    clients: list[Client]
    outside: OutsideValkey | OutsidePostgres
    newest: int = 0


@pytest.fixture
def world(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Start the clients."""
    # A client that is paused while it sweeps could not be told from one that holds up all others.
    monkeypatch.setattr("tenure.state.stores.postgres.SWEEP_PAUSE", NEVER)
    deployment = f"test-{uuid4().hex}"
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(Client(url, deployment))) for _ in range(2)]
        kind = OutsidePostgres if url.startswith("postgresql") else OutsideValkey
        yield World(clients, stack.enter_context(closing(kind(url, deployment))))


who = st.integers(0, 1)
ways = st.sampled_from([None, None, Failed, asyncio.CancelledError])


class Locking(RuleBasedStateMachine):
    """
    Clients that take and hold a lock, are paused and go on, while the engine's leases run out or are lost.

    The model is which block holds the lock by the engine, and for how many thirds of a lease; which block each client
    is in, and who waits there, in order; and the newest token of all.
    """

    world: World

    @initialize()
    def begin(self) -> None:
        """Start with a lock that is free."""
        self.holder: Block | None = None
        self.left = 0
        self.blocks: list[tuple[Client, Block]] = []
        for client in self.world.clients:
            client.forget()

    def teardown(self) -> None:
        """Leave nothing behind, whatever has become of it: each block ends when it is cancelled."""
        for client in self.world.clients:
            client.stop(*(block for owner, block in self.blocks if owner is client))
        self.world.outside.pass_by(3 * THIRD)

    def asks(self, client: Client, timeout: float) -> Block:
        """Let a client ask for the lock."""
        block = client.ask(timeout)
        self.blocks.append((client, block))
        return block

    def settle(self, client: Client) -> None:
        """Let a client go on: it learns what has become of its lease, and who is next there gets what is free."""
        inside = client.inside
        if inside is not None and inside.is_due:
            inside.is_due = False
            if inside.left <= 0 or self.holder is not inside:
                self.ends(client, inside, LockLost)
            else:
                renewals = client.engine.renewals
                client.run(lambda: inside.task.done() or client.engine.renewals > renewals)
                assert not inside.task.done()
                self.left = inside.left = 3
        if client.inside is None and client.waiting and self.holder is None:
            block = client.waiting.pop(0)
            client.run(lambda: block.task.done() or block.held is not None)
            self.enters(client, block)
        client.run()

    def enters(self, client: Client, block: Block) -> None:
        """See that a block holds the lock, with a token above all before."""
        assert not block.task.done()
        assert block.held is not None
        assert block.held.token > self.world.newest
        self.world.newest = block.held.token
        self.holder, client.inside, self.left = block, block, 3

    def ends(self, client: Client, block: Block, outcome: type[BaseException] | None) -> None:
        """See that a block ends as it should, and holds and renews nothing then."""
        client.run(block.task.done)
        assert block.outcome == outcome
        if client.inside is block:
            client.inside = None
            assert not client.renews()
        if self.holder is block:
            self.holder = None

    @rule(client=who)
    def tries(self, client: int) -> None:
        """Take the lock if it is free."""
        asking = self.world.clients[client]
        self.settle(asking)
        block = self.asks(asking, 0)
        if self.holder is None and asking.inside is None:
            asking.run(lambda: block.task.done() or block.held is not None)
            self.enters(asking, block)
        else:
            self.ends(asking, block, LockTimeout)

    @rule(client=who)
    def waits(self, client: int) -> None:
        """Wait for the lock, behind who waits there already."""
        asking = self.world.clients[client]
        asking.waiting.append(self.asks(asking, NEVER))
        self.settle(asking)

    @rule(client=who, which=st.integers(0, 3))
    def gives_up(self, client: int, which: int) -> None:
        """Wait no longer."""
        waiting = self.world.clients[client]
        self.settle(waiting)
        if waiting.waiting:
            block = waiting.waiting.pop(which % len(waiting.waiting))
            block.task.cancel()
            self.ends(waiting, block, asyncio.CancelledError)

    @rule(client=who, way=ways)
    def leaves(self, client: int, way: type[BaseException] | None) -> None:
        """Give the lock back: at the end of the block, by its error, or as it is cancelled; then the next has it."""
        leaving = self.world.clients[client]
        self.settle(leaving)
        if leaving.inside is not None:
            leaving.inside.leave(way)
            self.ends(leaving, leaving.inside, way)
            self.settle(leaving)

    @rule(running=st.sets(who))
    def time_passes(self, running: set[int]) -> None:
        """Let a third of a lease pass for all; who does not run then is paused, and finds itself late afterwards."""
        self.world.outside.pass_by(THIRD)
        self.left -= 1
        if self.left <= 0:
            self.holder = None
        for client in self.world.clients:
            client.set_forward(THIRD)
            if client.inside is not None:
                client.inside.left -= 1
                client.inside.is_due = True
        for index in running:
            self.settle(self.world.clients[index])

    @rule(client=who)
    def goes_on(self, client: int) -> None:
        """Let a client run that was paused."""
        self.settle(self.world.clients[client])

    @rule()
    def lease_is_lost(self) -> None:
        """Let the engine take a lease for run out that its holder believes in, as after a failover."""
        self.world.outside.pass_by(3 * THIRD)
        self.holder = None

    @rule(wholly=st.booleans())
    def wiped(self, *, wholly: bool) -> None:
        """Let the engine lose everything."""
        self.world.outside.wipe(wholly=wholly)
        self.holder = None

    @invariant()
    def one_holds_it(self) -> None:
        """At most one holds it by the engine, and of all who believe that they do, it has the newest token."""
        assert self.world.outside.is_held() == (self.holder is not None)
        for client in self.world.clients:
            inside = client.inside
            if inside is None or inside.held is None:
                continue
            assert not inside.task.done()
            assert inside.held.lost == (inside.left <= 0)
            if inside is self.holder:
                assert inside.held.token == self.world.newest
                inside.held.check()
            elif self.holder is not None:
                assert inside.held.token < self.world.newest


def test_a_lock_has_one_holder_whatever_becomes_of_leases_clients_and_the_engine(world: World) -> None:
    """One holds it at a time by the engine; tokens only rise; whose lease is gone is told, and is let out."""
    kind = type("Locking", (Locking,), {"world": world})
    run_state_machine_as_test(kind, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))  # type: ignore[no-untyped-call]
