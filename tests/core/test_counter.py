"""`Counter` at app scope: exact, whoever adds."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.testclient import TestClient

from tenure import Counter, lifespan, running
from tenure.errors import DeclarationError, NotStarted, PlanError

requests = Counter("requests", scope="app")
Requests = Annotated[Counter, Depends(requests)]


async def test_adds_from_threads_and_the_loop_are_all_counted() -> None:
    """Eight threads and the event loop add at once, and every add is in the sum, each with a value of its own."""
    each, threads = 20_000, 8
    begin = Barrier(threads + 1)

    async with running(also=[requests]) as scope:
        counter = await scope.get(requests)

        def work() -> list[int]:
            begin.wait()
            return [counter.add() for _ in range(each)]

        with ThreadPoolExecutor(threads) as pool:
            running_adds = [asyncio.wrap_future(pool.submit(work)) for _ in range(threads)]
            await asyncio.to_thread(begin.wait)
            seen = [counter.add() for _ in range(each)]
            for done in await asyncio.gather(*running_adds):
                seen += done
        assert counter.value == each * (threads + 1)
        assert sorted(seen) == list(range(1, counter.value + 1))


def test_every_kind_of_handler_adds_to_one_count() -> None:
    """Sync and async handlers and background tasks share the count, which begins anew with each start."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/async")
    async def handle(requests: Requests) -> int:
        return requests.add()

    @app.get("/sync")
    def handle_sync(requests: Requests, tasks: BackgroundTasks) -> int:
        tasks.add_task(requests.add, 10)
        return requests.add()

    for _ in range(2):
        with TestClient(app) as client:
            assert [client.get(path).json() for path in ("/async", "/sync", "/async")] == [1, 2, 13]


async def test_it_counts_down_as_well() -> None:
    """An add may be below 0, and a read sees it."""
    async with running(also=[requests]) as scope:
        counter = await scope.get(requests)
        assert (counter.add(5), counter.add(-7), counter.value) == (5, -2, -2)


@pytest.mark.parametrize("use", [requests.add, lambda: requests.value])
def test_the_declaration_itself_counts_nothing(use: Any) -> None:
    """Used without being injected, a counter says how to get the one that counts."""
    with pytest.raises(NotStarted, match=r"inject it: `Annotated\[Counter, Depends\(requests\)\]`"):
        use()


@pytest.mark.parametrize("scope", ["function", "request", "galaxy"])
def test_a_scope_in_which_nothing_is_shared_is_refused(scope: Any) -> None:
    """A counter for one request is a mistake, and so is a scope that does not exist."""
    with pytest.raises(DeclarationError):
        Counter("requests", scope=scope)


def test_a_name_is_needed() -> None:
    """A counter without a name is refused."""
    with pytest.raises(DeclarationError, match="a counter needs a name"):
        Counter("", scope="app")


def test_findings_name_the_line_of_the_declaration() -> None:
    """Two counters of one name are refused with the lines on which the user declared them."""
    first, second = Counter("visits", scope="app"), Counter("visits", scope="app")
    with pytest.raises(PlanError) as caught, TestClient(FastAPI(lifespan=lifespan(also=[first, second]))):
        pytest.fail("it started")
    places = [line.split()[-1] for line in caught.value.findings[0].path if "test_counter.py" in line]
    assert places == [first.location, second.location]
