"""Several workers of roster, as one service: one count, one limit, one memory of what was found."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
import redis

from tenure.host import EmbeddedValkey
from tenure.host.sockets import socket_path
from tests.roster.conftest import new_database
from tests.roster.service import DEADLINE, Service, reachable_folder, two_workers

if TYPE_CHECKING:
    from collections.abc import Generator

    from tenure.host.postgres import EmbeddedPostgres

pytestmark = pytest.mark.timeout(180)  # real processes, on a machine that may be busy

LIMIT = 5


@pytest.fixture(scope="module")
def dsn(server: EmbeddedPostgres) -> str:
    """Make a database for the workers."""
    return new_database(server)


@pytest.fixture(scope="module")
def workers(dsn: str) -> Iterator[tuple[Service, Service]]:
    """Run them."""
    with two_workers(ROSTER_DSN=dsn, ROSTER_SEED="false", ROSTER_POOL_TIMEOUT="2") as workers:
        yield workers


@contextmanager
def watching(service: Service) -> Generator[Iterator[int]]:
    """Watch the count, until the block ends."""
    with httpx.stream("GET", f"{service.url}/stats/live", timeout=DEADLINE) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        yield (json.loads(line.removeprefix("data: "))["total_requests"] for line in stream.iter_lines() if line)


def asked(service: Service, question: str) -> httpx.Response:
    """Search for one user."""
    return httpx.get(f"{service.url}/users/search", params={"q": question, "limit": 1}, timeout=DEADLINE)


def added(service: Service, username: str, bio: str) -> httpx.Response:
    """Add a user."""
    user = {"username": username, "email": "new@example.com", "bio": bio}
    return httpx.post(f"{service.url}/users", json=user, timeout=DEADLINE)


def found(service: Service, question: str) -> list[str]:
    """Give the names that a search finds."""
    return [match["username"] for match in asked(service, question).raise_for_status().json()]


def test_a_stream_of_one_worker_has_what_another_counts(workers: tuple[Service, Service]) -> None:
    """The first event is the count as it is, and each that follows a higher one, up to the last that was answered."""
    one, other = workers
    before = httpx.get(f"{one.url}/stats").json()["total_requests"]
    with watching(one) as counts, watching(other) as others:
        seen = [next(counts)]
        assert seen == [next(others)] == [before]
        services = [one, other] * 10
        answered = [httpx.get(f"{service.url}/stats").json()["total_requests"] for service in services]
        assert answered == list(range(before + 1, before + 21))
        while seen[-1] < answered[-1]:
            seen.append(next(counts))
        assert seen == sorted(set(seen))
        assert seen[-1] == answered[-1]
        while next(others) < answered[-1]:
            pass


def test_what_one_worker_has_found_another_answers(workers: tuple[Service, Service], dsn: str) -> None:
    """A question that was asked of one is answered by another without the database; a new one needs it."""
    one, other = workers
    added(one, "ada", "Plays the lute.").raise_for_status()
    answer = asked(one, "music").raise_for_status()
    with psycopg.connect(dsn) as holder:
        holder.execute("LOCK TABLE users")
        assert asked(other, "music").json() == answer.json()
        assert asked(other, "instruments").status_code == 503
    assert asked(other, "instruments").json()[0]["username"] == "ada"


def test_a_write_is_in_the_next_search_of_every_worker(workers: tuple[Service, Service]) -> None:
    """What was found is not answered again once a user is added, changed or removed, whichever worker does it."""
    one, other = workers
    question = "someone who jumps out of aeroplanes"
    assert found(one, question) == found(other, question) != ["eve"]
    user = added(one, "eve", "Skydiving instructor.").raise_for_status().json()
    assert (found(other, question), found(one, question)) == (["eve"], ["eve"])
    httpx.patch(f"{other.url}/users/{user['id']}", json={"username": "eva"}).raise_for_status()
    assert (found(one, question), found(other, question)) == (["eva"], ["eva"])
    httpx.delete(f"{one.url}/users/{user['id']}").raise_for_status()
    assert found(one, question) == found(other, question) != ["eva"]


def test_a_limit_is_one_for_all_workers(dsn: str) -> None:
    """Of twenty writes over two workers within a minute, as many get through as the limit says."""
    with two_workers(ROSTER_DSN=dsn, ROSTER_SEED="false", ROSTER_WRITES_PER_MINUTE=str(LIMIT)) as (one, other):
        until_early_in_the_minute()
        services = [one, other] * 10
        answers = [httpx.delete(f"{service.url}/users/{2**63 - 1}", timeout=DEADLINE) for service in services]
        assert [answer.status_code for answer in answers] == [404] * LIMIT + [429] * (20 - LIMIT)
        assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in answers[LIMIT:])
        assert httpx.get(f"{one.url}/users").status_code == 200


def holders(folder: Path, resource: str = "") -> list[int]:
    """Find the processes of workers of this folder, and of what they share, that have loaded onnxruntime."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"XDG_RUNTIME_DIR={folder / 'shared'}" in (process / "environ").read_text().split("\0"):
                command, maps = (process / "cmdline").read_text(), (process / "maps").read_text()
                found += [int(process.name)] if "onnxruntime" in maps and resource in command else []
        except OSError:  # it has ended, or is another user's
            continue
    return found


def test_no_worker_loads_a_model(workers: tuple[Service, Service]) -> None:
    """Each of the two models is in one process of its own, however many workers there are."""
    folder = workers[0].folder
    owners = [holders(folder, f"roster.{module}/order.json") for module in ("embedder.embedder", "content.content")]
    assert [len(pids) for pids in owners] == [1, 1]
    assert sorted(holders(folder)) == sorted(pid for pids in owners for pid in pids)


def test_searches_are_answered_although_the_model_dies(workers: tuple[Service, Service]) -> None:
    """What the process of the model computed when it was killed, and what comes then, the next one computes."""
    [owner] = holders(workers[0].folder, "embedder.embedder")
    with ThreadPoolExecutor(8) as callers:
        asking = [callers.submit(asked, worker, f"mortal {number}") for number in range(40) for worker in workers]
        asking[0].result()
        os.kill(owner, signal.SIGKILL)
        assert {each.result().status_code for each in asking} == {200}
    assert holders(workers[0].folder, "embedder.embedder") != [owner]


def until_early_in_the_minute() -> None:
    """Wait, where the minute in which writes are counted would end meanwhile."""
    while time.time() % 60 > 45:
        time.sleep(0.1)


@contextmanager
def stopped_valkey(folder: Path) -> Generator[None]:
    """Stop the server that the workers share, so that it does not answer."""
    [home] = (folder / "shared").rglob("valkey")
    with redis.Redis(unix_socket_path=str(socket_path(home, "valkey.sock"))) as client:
        pid: int = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_users_are_served_while_the_shared_server_does_not_answer(workers: tuple[Service, Service]) -> None:
    """Writes get through uncounted, searches are made anew; who watches hears of it later, who begins to is told so."""
    one, other = workers
    added(one, "grace", "Writes compilers.").raise_for_status()
    before: dict[str, Any] = httpx.get(f"{one.url}/stats").json()
    assert found(one, "software") == ["grace"]
    with watching(other) as counts, ExitStack() as stopped:
        assert next(counts) == before["total_requests"]
        stopped.enter_context(stopped_valkey(one.folder))
        assert added(one, "linus", "Writes kernels of operating systems.").status_code == 201
        assert found(one, "operating systems") == ["linus"]
        assert httpx.get(f"{one.url}/stats").json() == {"total_requests": before["total_requests"] + 1}
        answer = httpx.get(f"{one.url}/stats/live", timeout=DEADLINE)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["retry-after"] == "1"
        stopped.close()
        assert next(counts) == before["total_requests"] + 1
    assert "a write was not counted" in one.errors
    assert "what a search finds is not kept" in one.errors
    assert "Traceback" not in one.errors + other.errors


def test_what_an_earlier_run_has_found_is_forgotten(dsn: str) -> None:
    """Workers that start when all were killed count changes anew, and do not take the answers of then for theirs."""
    with reachable_folder() as folder, ExitStack() as kept:
        with Service(folder, ROSTER_DSN=dsn, ROSTER_SEED="false") as first:
            added(first.until_ready(), "mallory", "Sails around the world.").raise_for_status()
            assert found(first, "sailor") == ["mallory"]
            [home] = (folder / "shared").rglob("valkey")
            kept.enter_context(EmbeddedValkey(home))  # as it is for a moment when others follow at once
            first.stop(by=signal.SIGKILL)
        with psycopg.connect(dsn) as connection:
            connection.execute("DELETE FROM users WHERE username = 'mallory'")
        with Service(folder, ROSTER_DSN=dsn, ROSTER_SEED="false") as second:
            added(second.until_ready(), "trent", "Sails across a lake.").raise_for_status()
            assert found(second, "sailor") == ["trent"]


def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path, dsn: str) -> None:
    """On Ctrl-C the stream ends in good order, and so do the server and all that its workers had open."""
    with Service(tmp_path, "uvicorn-workers", ROSTER_DSN=dsn, ROSTER_SEED="false") as service:
        service.until_ready().until_logged("Application startup complete.", times=2)
        with watching(service) as counts:
            next(counts)
            service.stop(by=signal.SIGINT)
            assert list(counts) == []
    assert service.errors.count("Application shutdown complete.") == 2
    assert "Traceback" not in service.errors
