"""Eight workers on two machines share a count, a limit, a step that is done once, a periodic job and news."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
import redis

from tests.faults.acceptance.clients import WAYS, Client, Watcher
from tests.faults.acceptance.machines import WORKERS, Connection, Pair, connected, running, until
from tests.faults.conftest import dsn  # noqa: F401 (a fixture)
from tests.state.conftest import url  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = 2 * WORKERS
IN_FLIGHT = 40
ADDS = 20_000
LIMIT = 100
WORDS = 40

pytestmark = pytest.mark.timeout(240)  # two servers of four workers each start with the first test of an engine


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, url: str) -> Iterator[Pair]:  # noqa: F811 (a fixture)
    """Run two machines whose workers have all started; before that, all but one wait for the step that is done once."""
    work = url if url.startswith("postgresql") else request.getfixturevalue("dsn")
    with running(url, work) as pair:
        pair.until_one_has_begun()
        pair.allow("migrate")
        until(lambda: len(pair.noted("ready")) >= ALL, lambda: f"they do not start:\n{pair.log}")
        yield pair


# --- a count ----------------------------------------------------------------------------------------------------------


def settled(connections: list[Connection]) -> int:
    """Wait until all have one value, for five times as long as it takes to publish; which."""
    seen: list[set[int]] = []

    def is_settled() -> bool:
        seen.append({connection.ask("/value") for connection in connections})
        time.sleep(0.05)
        return len(seen) >= 10 and len(set().union(*seen[-10:])) == 1

    until(is_settled, lambda: f"values are {seen[-1]}")
    return seen[-1].pop()


def test_no_answered_add_is_lost_while_a_worker_is_killed(pair: Pair) -> None:
    """Of 20,000 adds in four ways, with a worker killed -9 half-way, all that were answered count, on all workers."""
    with connected(*pair.machines) as connections:
        before = settled(connections)
    clients = [Client(machine, way) for machine in pair.machines for way in WAYS for _ in range(5)]
    began = time.monotonic()
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        pressing = [threads.submit(client.press, ADDS // IN_FLIGHT) for client in clients]
        until(lambda: sum(client.sent for client in clients) >= ADDS // 2)
        os.kill(clients[0].pid, signal.SIGKILL)
        for each in pressing:
            each.result()
    seconds = time.monotonic() - began
    sent, acknowledged = sum(client.sent for client in clients), sum(client.acknowledged for client in clients)
    with connected(*pair.machines) as connections:
        total = settled(connections) - before
        assert 0.9 * ADDS < acknowledged <= total <= sent == ADDS
        for connection in connections:
            connection.ask("/awaited")
        assert settled(connections) == before + total + ALL
    assert len(set.union(*(client.pids for client in clients))) >= 4
    print(f"acknowledged {acknowledged}, counted {total}, sent {sent}, in {seconds:.1f} s")


def test_a_limit_is_one_for_all_workers(pair: Pair) -> None:
    """Of 400 that ask all workers at once, as many pass as one limit lets through."""

    def passed(connection: Connection) -> int:
        return sum(connection.ask(f"/limited/{LIMIT}") for _ in range(50))

    with connected(*pair.machines) as connections, ThreadPoolExecutor(ALL) as threads:
        assert sum(threads.map(passed, connections)) == LIMIT


# --- a step that is done once, and a job ------------------------------------------------------------------------------


def test_a_step_is_done_once_for_all(pair: Pair) -> None:
    """One process of eight does it, and the others go on when it has."""
    assert [len(pair.noted("began")), len(pair.noted("ended"))] == [1, 1]
    ended = pair.noted("ended")[0][1]
    waits = [at - ended for _, at in pair.noted("ready")[:ALL]]
    assert min(waits) > 0
    assert max(waits) < 10
    print(f"after the end of the step the first has started in {min(waits):.3f} s, the last in {max(waits):.3f} s")


def test_a_job_moves_when_its_process_is_killed_and_never_runs_twice(pair: Pair) -> None:
    """One process works at a time; killed, another does within ten seconds; each has a token above the last one's."""
    with psycopg.connect(pair.work, autocommit=True) as database:

        def last() -> Any:
            return database.execute("SELECT token, pid FROM work ORDER BY number DESC LIMIT 1").fetchone()

        moves = []
        for _ in range(2):
            token, pid = until(last)
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            until(lambda: last()[0] > token)  # noqa: B023 (at once)
            moves.append(time.monotonic() - killed)
        steps = database.execute("SELECT token, pid FROM work ORDER BY number").fetchall()
    turns = [steps[0], *(after for before, after in pairwise(steps) if after != before)]
    assert len(turns) >= 3
    assert [token for token, _ in turns] == sorted({token for token, _ in turns})
    assert max(moves) < 10
    print("the job moved in", *(f"{seconds:.2f} s" for seconds in moves))


# --- news -------------------------------------------------------------------------------------------------------------


def lose_subscriptions(pair: Pair, sparing: list[int]) -> int:
    """End the connections over which news come, and with PostgreSQL all but those of the apps' pools; how many."""
    if not pair.url.startswith("postgresql"):
        with redis.Redis.from_url(pair.url) as client:
            return cast("int", client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))
    others = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND pid <> ALL(%s)"""
    with psycopg.connect(pair.url, autocommit=True) as database:
        return len(database.execute(others, [sparing]).fetchall())


def test_news_reach_all_workers_also_after_their_connections_are_lost(pair: Pair) -> None:
    """What any of eight publishes, a client of each hears once; who lost the connection is told, and hears on."""
    with connected(*pair.machines) as publishers, connected(*pair.machines) as listening:
        watchers = [Watcher(connection) for connection in listening]
        try:
            delays = published(publishers, watchers, range(WORDS))
            own = [session for each in publishers for session in each.ask("/pool")]
            lost = lose_subscriptions(pair, own)
            at = time.monotonic()
            back = []
            for watcher in watchers:
                said, heard = watcher.next()
                assert said == "missed"
                back.append(heard - at)
            delays += published(publishers, watchers, range(WORDS, 2 * WORDS))
            assert [session for each in publishers for session in each.ask("/pool")] == own
        finally:
            for watcher in watchers:
                watcher.leave()
    assert lost >= ALL
    assert max(back) < 10
    print(f"heard by all in {median(delays) * 1000:.1f} ms, at most {max(delays) * 1000:.1f} ms")
    print(f"subscribed again in {median(back):.3f} s, at most {max(back):.3f} s")


def published(publishers: list[Connection], watchers: list[Watcher], numbers: range) -> list[float]:
    """Publish each number from another worker, and let all hear them; how long each took to each."""
    delays = []
    for number, publisher in zip(numbers, cycle(publishers), strict=False):
        publisher.ask(f"/publish/{number}")
        for watcher in watchers:
            word, heard = watcher.next()
            assert word["number"] == number
            delays.append(heard - word["at"])
    return delays
