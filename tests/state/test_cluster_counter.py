"""`Counter` at cluster scope: one count for all machines, each of which counts by itself and publishes its totals."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
import redis.asyncio
from fastapi import FastAPI
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tenure import Counter, lifespan, running
from tenure.errors import AlreadyClosed, DeclarationError, StateFull
from tenure.state.stores import host_totals
from tenure.state.stores.publisher import Publisher
from tenure.state.stores.totals import KEPT, Replica, Standing, Totals
from tenure.state.stores.totals_postgres import PostgresLedger
from tenure.state.stores.totals_valkey import ValkeyLedger
from tests.state.cluster_member import Member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from tenure.state.stores.totals import Ledger

HANGS = 20.0
"""Seconds after which a wait of a test has failed."""
NEVER = 600.0
"""An interval that does not pass while a test runs."""
OFTEN = 0.05
NAMES = ("requests", "users")

requests = Counter("requests", scope="cluster", interval=OFTEN)


@pytest.fixture
def deployment() -> str:
    """Make up a name that nobody else has."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Give what lets the apps that start from now on run on the machine of a name: each has a folder of its own."""
    place = Path(tempfile.mkdtemp(prefix="tenure-test-"))

    def move(name: str) -> Path:
        (place / name).mkdir(mode=0o700, exist_ok=True)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / name))
        return place / name

    yield move
    shutil.rmtree(place)


@asynccontextmanager
async def counting(url: str, deployment: str, counter: Counter = requests) -> AsyncIterator[Counter]:
    """Run an app with a counter."""
    app = FastAPI(lifespan=lifespan(also=[counter], deployment=deployment, state=url))
    async with running(app) as scope:
        yield await scope.get(counter)


async def reaches(counter: Any, value: int) -> bool:
    """Wait until a counter has a value."""
    async with asyncio.timeout(HANGS):
        while counter.value != value:
            await asyncio.sleep(0.01)
    return True


def ledger_of(url: str, deployment: str) -> Ledger:
    """Connect to an engine."""
    kind = PostgresLedger if url.startswith("postgresql") else ValkeyLedger
    return kind(url, deployment=deployment, deadline=HANGS)


async def wipe(url: str) -> None:
    """Let an engine lose everything."""
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        await connection.execute("DELETE FROM tenure.counters; DELETE FROM tenure.counter_replicas")
        await connection.close()
        return
    async with redis.asyncio.from_url(url) as client:
        await client.flushall()


async def silence(url: str, deployment: str, replicas: Iterable[str]) -> None:
    """Let an engine have heard of replicas for the last time long ago."""
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        long_ago = "UPDATE tenure.counter_replicas SET heard = 'epoch' WHERE deployment = $1 AND replica = ANY($2)"
        await connection.execute(long_ago, deployment, list(replicas))
        await connection.close()
        return
    async with redis.asyncio.from_url(url) as client:
        for replica in replicas:
            await client.zadd(f"tenure:{deployment}:replicas", {replica: 0}, xx=True)


# --- the merge --------------------------------------------------------------------------------------------------------

hosts = st.integers(0, 2)
fates = st.sampled_from(["at once", "at once", "late", "late", "repeated", "lost"])
names = st.sampled_from(NAMES)
amounts = st.one_of(st.integers(-5, 20), st.integers(2**54, 2**54 + 99))  # beyond what a float holds


class Merging(RuleBasedStateMachine):
    """Hosts that publish to an engine which loses, repeats, delays and reorders what it is sent, or forgets it all."""

    url: str

    @initialize()
    def begin(self) -> None:
        """Start with nothing counted, on three hosts."""
        self.runner = asyncio.Runner()
        self.deployment = f"test-{uuid4().hex}"
        self.ledger = ledger_of(self.url, self.deployment)
        self.replicas = [Replica(uuid4().hex) for _ in range(3)]
        self.held: list[dict[str, Totals]] = [dict.fromkeys(NAMES, Totals()) for _ in range(3)]
        self.flying: list[tuple[str, dict[str, Totals]]] = []
        self.arrived: dict[str, dict[str, Totals]] = defaultdict(dict)
        self.left = dict.fromkeys(NAMES, Totals())  # by replicas that are gone

    def teardown(self) -> None:
        """Let every host publish: then each of them has the exact value."""
        if not hasattr(self, "runner"):
            return
        for replica, held in zip(self.replicas, self.held, strict=True):
            self.deliver(replica.name, replica.published(held))
        living = {replica.name for replica in self.replicas}
        for replica, held in zip(self.replicas, self.held, strict=True):
            standings = self.deliver(replica.name, replica.published(held))
            for name in NAMES:
                gone = [totals.get(name, Totals()) for key, totals in self.arrived.items() if key not in living]
                here = [each.published(all_)[name] for each, all_ in zip(self.replicas, self.held, strict=True)]
                exact = self.left[name].value + sum(totals.value for totals in gone + here)
                assert standings[name].everyone.value == exact
                assert held[name].value + replica.others(name, standings[name]) == exact
        self.runner.run(self.ledger.close())
        self.runner.close()

    def deliver(self, replica: str, totals: dict[str, Totals]) -> dict[str, Standing]:
        """Let a publish arrive; what is kept then is never more than what was counted."""
        standings = self.runner.run(self.ledger.exchange(replica, totals))
        mine = self.arrived[replica]
        for name, sent in totals.items():
            before = mine.get(name, Totals())
            mine[name] = Totals(max(sent.added, before.added), max(sent.removed, before.removed))
            assert standings[name].own == mine[name]
            kept = [each[name] for each in self.arrived.values() if name in each]
            assert standings[name].everyone == Totals(
                self.left[name].added + sum(each.added for each in kept),
                self.left[name].removed + sum(each.removed for each in kept),
            )
        return standings

    @rule(some=st.lists(st.tuples(hosts, names, amounts, fates), min_size=1, max_size=8))
    def count(self, some: list[tuple[int, str, int, str]]) -> None:
        """Count here and there."""
        for one in some:
            self.count_one(*one)

    def count_one(self, host: int, name: str, amount: int, fate: str) -> None:
        """Count on a host, and publish; when that arrives, and how often, is another matter."""
        added, removed = self.held[host][name]
        self.held[host][name] = Totals(added + max(amount, 0), removed + max(-amount, 0))
        message = self.replicas[host].name, self.replicas[host].published(self.held[host])
        if fate != "lost":
            self.flying.append(message)
        if fate in {"at once", "repeated"}:
            self.deliver(*message)
        if fate == "at once":
            self.flying.pop()

    @rule(some=st.lists(st.integers(0, 9), min_size=1, max_size=4), again=st.booleans())
    def arrive(self, some: list[int], *, again: bool) -> None:
        """Let any of what is under way arrive, perhaps to arrive once more."""
        for which in some:
            if self.flying:
                at = which % len(self.flying)
                self.deliver(*self.flying[at])
                if not again:
                    del self.flying[at]

    @rule()
    def wipe(self) -> None:
        """Let the engine lose everything."""
        self.runner.run(self.ledger.exchange("nobody", {}))  # so that there is something to lose
        self.runner.run(wipe(self.url))
        self.arrived.clear()
        self.left = dict.fromkeys(NAMES, Totals())

    @rule(host=hosts)
    def replace(self, host: int) -> None:
        """Lose a host with what it has not published, and have a new one."""
        self.replicas[host], self.held[host] = Replica(uuid4().hex), dict.fromkeys(NAMES, Totals())

    @rule()
    def forget(self) -> None:
        """Let so much time pass that replicas are forgotten, nothing is under way, and each host begins a new one."""
        self.runner.run(self.ledger.exchange("nobody", {}))
        self.runner.run(self.ledger.forget(-HANGS))
        self.fold(set(self.arrived))
        self.replicas = [each.successor(held) for each, held in zip(self.replicas, self.held, strict=True)]

    @rule()
    def forget_the_gone(self) -> None:
        """Let so much time pass that the replicas of lost hosts are forgotten, while the others publish."""
        gone = set(self.arrived) - {replica.name for replica in self.replicas}
        if gone:
            self.runner.run(silence(self.url, self.deployment, gone))
        self.runner.run(self.ledger.forget(KEPT))
        self.fold(gone)

    def fold(self, replicas: set[str]) -> None:
        """Know replicas by what they have left to the total alone; of theirs, nothing is under way any more."""
        for replica in replicas:
            for name, (added, removed) in self.arrived.pop(replica).items():
                self.left[name] = Totals(self.left[name].added + added, self.left[name].removed + removed)
        living = {replica.name for replica in self.replicas} - replicas
        self.flying = [message for message in self.flying if message[0] in living]


def test_a_publish_may_be_lost_repeated_late_or_overtaken_and_the_engine_wiped(url: str) -> None:
    """Whatever becomes of publishes, the engine never has too much; it is exact once each host has published."""
    kind = type("Merging", (Merging,), {"url": url})
    run_state_machine_as_test(kind, settings=settings(max_examples=60, stateful_step_count=25, deadline=None))  # type: ignore[no-untyped-call]


# --- machines ---------------------------------------------------------------------------------------------------------


async def test_machines_have_one_count(url: str, deployment: str, machines: Callable[[str], Path]) -> None:
    """What any machine adds or takes away is in the value of each; what it does itself, at once."""
    async with AsyncExitStack() as stack:
        counters = []
        for name in ("one", "two", "three"):
            machines(name)
            counters.append(await stack.enter_async_context(counting(url, deployment)))
        one, two, three = counters
        assert [one.add(5), one.add(-2), one.value] == [5, 3, 3]
        assert await asyncio.to_thread(one.add) == 4
        assert await reaches(two, 4)
        assert [two.add(-10), two.add(0)] == [-6, -6]
        assert await reaches(three, -6)
        assert await reaches(one, -6)


async def test_a_machine_begins_with_what_others_have_counted(
    url: str, deployment: str, machines: Callable[[str], Path]
) -> None:
    """An app that has started knows at once what was published; what was counted last is published at its close."""
    seldom = Counter("requests", scope="cluster", interval=NEVER)
    for number, name in enumerate(("one", "two", "one", "three")):
        machines(name)
        async with counting(url, deployment, seldom) as counter:
            assert counter.value == 100 * number
            counter.add(100)


async def test_workers_of_a_machine_share_what_is_known(
    url: str, deployment: str, machines: Callable[[str], Path]
) -> None:
    """One app of a machine publishes for the others, also the counters that it does not have; then another does."""
    users = Counter("users", scope="cluster", interval=OFTEN)
    machines("one")
    async with counting(url, deployment, users) as there, counting(url, deployment) as here:
        machines("two")
        async with AsyncExitStack() as first:
            await first.enter_async_context(counting(url, deployment))
            async with counting(url, deployment, users) as second, counting(url, deployment) as third:
                second.add(3)
                third.add(4)
                assert await reaches(there, 3)
                assert await reaches(here, 4)
                await first.aclose()
                assert [second.add(30), third.add(40)] == [33, 44]
                there.add(100)
                assert await reaches(there, 133)
                assert await reaches(here, 44)
                assert await reaches(second, 133)


async def test_deployments_count_apart(url: str, deployment: str, machines: Callable[[str], Path]) -> None:
    """On one machine and one engine, another deployment has another count."""
    machines("one")
    async with counting(url, deployment) as one, counting(url, f"{deployment}-2") as other:
        one.add(7)
        other.add(1)
    async with counting(url, deployment) as one, counting(url, f"{deployment}-2") as other:
        assert [one.value, other.value] == [7, 1]


async def test_workers_that_start_at_once_make_the_tables_once(url: str, machines: Callable[[str], Path]) -> None:
    """The first start on an empty engine is that of many, and each of them succeeds."""
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        await connection.execute("DROP SCHEMA IF EXISTS tenure CASCADE")
        await connection.close()
    ledgers = [ledger_of(url, "many") for _ in range(8)]
    await asyncio.gather(
        *(each.exchange(f"{number}.0", {"requests": Totals(1)}) for number, each in enumerate(ledgers))
    )
    standing = (await ledgers[0].exchange("0.0", {"requests": Totals(1)}))["requests"]
    assert standing == Standing(Totals(8), Totals(1))
    for ledger in ledgers:
        await ledger.close()


async def test_any_thread_of_any_worker_adds(url: str, deployment: str, machines: Callable[[str], Path]) -> None:
    """Two machines of two workers add from their threads at once, and each add is in what all see."""
    place = machines("here").parent
    members = [Member(place / name, url, deployment, OFTEN) for name in ("one", "two") for _ in range(2)]
    try:
        for member in members:
            await asyncio.to_thread(member.started)
        sums = await asyncio.gather(*(asyncio.to_thread(add_often, member) for member in members))
        async with counting(url, deployment) as counter:
            assert await reaches(counter, 4 * 200)
        for member in members:
            assert await asyncio.to_thread(settled, member) == 4 * 200
            assert max(sums) <= 4 * 200
            await asyncio.to_thread(member.leave)
    finally:
        for member in members:
            member.end()


def add_often(member: Member) -> int:
    """Let it add 200 times, and see each time more than before."""
    values = [member.add() for _ in range(200)]
    assert values == sorted(set(values))
    return values[-1]


def settled(member: Member) -> int:
    """Wait until a worker sees all; what it sees."""
    until = time.monotonic() + HANGS
    while member.value < 4 * 200 and time.monotonic() < until:
        time.sleep(0.01)
    return member.value


# --- what was forgotten -----------------------------------------------------------------------------------------------


async def published(folder: Path, ledger: Ledger, add: int) -> int:
    """Be a worker that adds, and then closes; what it sees before that."""
    publisher = Publisher(folder, ledger, interval=NEVER)
    try:
        number = await publisher.number("requests")
        return number.add(add)
    finally:
        await publisher.close()


async def test_a_replica_that_was_cut_off_begins_anew(
    url: str,
    deployment: str,
    machines: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A machine that was cut off for so long that it may be forgotten never counts twice, and says what is lost."""
    machines("one")
    folder = await asyncio.to_thread(host_totals.settled, deployment, url, NEVER)
    assert await published(folder, ledger_of(url, deployment), 5) == 5
    observer = ledger_of(url, deployment)
    for month, expected in ((1, 7), (2, 9), (3, 11)):
        await observer.forget(-HANGS)
        later = month * int(KEPT * 1e9)
        monkeypatch.setattr("tenure.state.stores.publisher.clock", lambda later=later: host_totals.clock() + later)
        caplog.clear()
        assert await published(folder, ledger_of(url, deployment), 2) == expected
        assert "for 29 days: others will not learn what it counted then" in caplog.text
    standing = (await observer.exchange("observer", {"requests": Totals(1)}))["requests"]
    assert standing.everyone == Totals(12)
    await observer.close()


@pytest.fixture
def cut_off(deployment: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Give what lets a month pass in which the engine has heard of nobody, and forgets all."""
    months = 0

    async def pass_a_month() -> None:
        nonlocal months
        months += 1
        ahead = months * int(KEPT * 1e9)
        monkeypatch.setattr("tenure.state.stores.publisher.clock", lambda: host_totals.clock() + ahead)
        ledger = ledger_of(url, deployment)
        await ledger.forget(-HANGS)
        await ledger.close()

    return pass_a_month


async def test_whoever_comes_after_a_new_beginning_goes_on_with_it(
    url: str, deployment: str, machines: Callable[[str], Path], cut_off: Callable[[], Awaitable[None]]
) -> None:
    """Workers that leave and come back on a machine that has begun anew count nothing twice, for no machine."""
    seldom = Counter("requests", scope="cluster", interval=NEVER)
    total = 0
    for months in range(3):
        for worker in range(3):
            machines("one")
            async with counting(url, deployment, seldom) as here:
                total += 10**months
                assert here.add(10**months) == total
            machines(f"another-{months}-{worker}")
            async with counting(url, deployment, seldom) as there:
                assert there.value == total
        await cut_off()


async def test_a_machine_whose_counts_are_swept_away_counts_on_as_a_new_one(
    url: str, deployment: str, machines: Callable[[str], Path], cut_off: Callable[[], Awaitable[None]]
) -> None:
    """What it has published stays; what is left in its folder of a replica of before says nothing of the new one."""
    seldom = Counter("requests", scope="cluster", interval=NEVER)
    machines("one")
    async with counting(url, deployment, seldom) as counter:
        counter.add(5)
    await cut_off()
    async with counting(url, deployment, seldom) as counter:
        counter.add(2)
    folder = await asyncio.to_thread(host_totals.settled, deployment, url, NEVER)
    for file in (file for file in folder.iterdir() if file.name != "replica"):
        file.unlink()
    for expected in (8, 9):
        async with counting(url, deployment, seldom) as counter:
            assert counter.add() == expected


async def test_what_is_forgotten_stays_in_the_total(url: str, deployment: str) -> None:
    """An engine forgets who has published nothing for a time, keeps the sum, and does not forget who has."""
    ledger = ledger_of(url, deployment)
    await ledger.exchange("gone.0", {"requests": Totals(5, 2)})
    await ledger.forget(HANGS)
    assert (await ledger.exchange("gone.0", {"requests": Totals(5, 2)}))["requests"].own == Totals(5, 2)
    await ledger.forget(-HANGS)
    assert await ledger.exchange("gone.0", {"requests": Totals()}) == {"requests": Standing(Totals(5, 2), Totals())}
    await ledger.close()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "refusal"),
    [
        ("requests", {"durable": True}, "is to be durable, but what machines share lives as long as the engine"),
        ("n" * 120, {}, "its name is too long, or not printable"),
        ("a\0b", {}, "its name is too long, or not printable"),
        ("\ud800", {}, "its name is too long, or not printable"),
        ("requests", {"interval": 0}, "interval=0 of the counter `requests` is below 0.05 seconds"),
        ("requests", {"interval": float("nan")}, "interval=nan of the counter"),
    ],
)
def test_a_counter_that_cannot_be_shared_is_refused(name: str, options: dict[str, Any], refusal: str) -> None:
    """What is wrong is said where it is declared."""
    with pytest.raises(DeclarationError, match=refusal):
        Counter(name, scope="cluster", **options)


async def test_the_longest_name_is_served(url: str, deployment: str, machines: Callable[[str], Path]) -> None:
    """A name as long as allowed, in any script, is as good as others."""
    machines("one")
    name = "é" * 59 + "n"
    async with counting(url, deployment, Counter(name, scope="cluster", interval=OFTEN)) as one:
        machines("two")
        async with counting(url, deployment, Counter(name, scope="cluster", interval=OFTEN)) as two:
            one.add(3)
            assert await reaches(two, 3)


async def test_a_closed_counter_refuses_to_count(url: str, deployment: str, machines: Callable[[str], Path]) -> None:
    """Used after its app has closed it, from any thread, it says so."""
    machines("one")
    async with counting(url, deployment) as counter:
        add = counter.add
    for use in (add, counter.add, lambda: add(-1), lambda: counter.value):
        with pytest.raises(AlreadyClosed, match="used after its app had closed it"):
            await asyncio.to_thread(use)


async def test_what_does_not_fit_is_refused_and_nothing_is_lost(
    url: str, deployment: str, machines: Callable[[str], Path]
) -> None:
    """A number beyond 64 bits is refused; what was counted before is there, and is published."""
    machines("one")
    async with counting(url, deployment) as counter:
        counter.add(2**62)
        with pytest.raises(StateFull):
            counter.add(2**62)
        counter.add(-(2**62))
        assert counter.add(1) == 1
    machines("two")
    async with counting(url, deployment) as counter:
        assert counter.value == 1
