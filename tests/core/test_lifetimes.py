"""Starting, rolling back and closing: nothing that was opened stays open, whatever fails and wherever."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from tenure import Resource, lifespan, running, scoped
from tenure.errors import CloseFailed, ResourceFailed, StartFailed

LENGTH = 5


def chain(log: list[str], broken: int | None = None, how: str = "raise") -> list[Resource[Any]]:
    """Make resources of which each needs the one before; the one at `broken` fails to start, or never ends starting."""
    made: list[Resource[Any]] = []

    def add(k: int) -> None:
        needed = made[k - 1] if k else scoped("app")(lambda: "root")

        async def link(before: Annotated[str, Depends(needed)]) -> AsyncIterator[str]:
            if k == broken and how == "raise":
                msg = f"cannot open {k}"
                raise ConnectionError(msg)
            log.append(f"+{k}")
            try:
                if k == broken:
                    await asyncio.Event().wait()
                yield f"{before} {k}"
            finally:
                log.append(f"-{k}")

        made.append(scoped("app", name=f"link{k}", start_timeout=0.05 if k == broken and how == "hang" else 30)(link))

    for k in range(LENGTH):
        add(k)
    return made


def app_of(*resources: Resource[Any]) -> FastAPI:
    """Make an app with one route, which needs the last resource."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(value: Annotated[Any, Depends(resources[-1])]) -> str:
        return str(value)

    return app


def opened_up_to(k: int) -> list[str]:
    """Name what the log has when the first `k` were opened and closed again in reverse."""
    return [f"+{i}" for i in range(k)] + [f"-{i}" for i in reversed(range(k))]


async def test_starts_in_order_of_need_and_closes_in_reverse() -> None:
    """Each resource starts after what it needs and closes before it."""
    log: list[str] = []
    resources = chain(log)
    async with running(also=resources) as scope:
        value = await scope.get(resources[-1])
    assert value == "root 0 1 2 3 4"
    assert log == opened_up_to(LENGTH)


@pytest.mark.parametrize("k", range(LENGTH))
async def test_a_start_that_fails_closes_what_had_started(k: int) -> None:
    """A failure at any step closes every earlier one in reverse, and one error names the step and who needed it."""
    log: list[str] = []
    app = app_of(*chain(log, broken=k))
    with pytest.raises(StartFailed) as caught:
        async with running(app):
            pytest.fail("it started")
    assert log == opened_up_to(k)
    assert caught.value.message == f"`link{k}` did not start: ConnectionError: cannot open {k}"
    assert isinstance(caught.value.__cause__, ConnectionError)
    path = "\n".join(caught.value.path)
    assert [f"link{i} " in path for i in range(k, LENGTH)] == [True] * (LENGTH - k)
    assert "used by GET /" in path


@pytest.mark.parametrize("k", range(LENGTH))
async def test_a_start_that_takes_too_long_closes_what_had_started(k: int) -> None:
    """A start that is not done by its deadline fails as one that raises, and is itself closed."""
    log: list[str] = []
    with pytest.raises(StartFailed, match=r"it was not ready after 0\.05 s") as caught:
        async with running(also=chain(log, broken=k, how="hang")):
            pytest.fail("it started")
    assert log == opened_up_to(k + 1)
    assert "start_timeout=" in caught.value.hint


async def test_a_timeout_of_a_factorys_own_is_told_as_such() -> None:
    """A `TimeoutError` that the factory raises, without a word, is not taken for a start that needs longer."""

    @scoped("app")
    async def database() -> None:
        raise TimeoutError

    with pytest.raises(StartFailed) as caught:
        async with running(also=[database]):
            pytest.fail("it started")
    assert caught.value.message == "`database` did not start: TimeoutError"
    assert "start_timeout" not in str(caught.value)


async def test_a_sync_factory_that_raises_stop_iteration_fails_at_once() -> None:
    """What no future can hold is told all the same, as what it was."""

    @scoped("app", start_timeout=5)
    def first() -> int:
        return next(iter(()))

    with pytest.raises(
        StartFailed, match=r"`first` did not start: RuntimeError: it raised StopIteration\(\)"
    ) as caught:
        async with running(also=[first]):
            pytest.fail("it started")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert isinstance(caught.value.__cause__.__cause__, StopIteration)


@pytest.mark.parametrize("k", range(LENGTH))
async def test_a_start_that_is_cancelled_closes_what_had_started(k: int) -> None:
    """A cancellation while any step starts closes that step and every earlier one in reverse."""
    log: list[str] = []
    stuck = chain(log, broken=k, how="wait for ever")

    async def start() -> None:
        async with running(also=stuck):
            pytest.fail("it started")

    task = asyncio.create_task(start())
    while f"+{k}" not in log:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == opened_up_to(k + 1)


async def test_independent_resources_start_at_the_same_time() -> None:
    """Resources that do not need each other wait for each other in no way: here each waits for all to have begun."""
    barrier = asyncio.Barrier(3)

    def one(name: str) -> Resource[None]:
        async def start() -> None:
            await barrier.wait()

        return scoped("app", name=name)(start)

    async with running(also=[one("a"), one("b"), one("c")]):
        assert not barrier.broken


async def test_every_failure_of_one_moment_is_named() -> None:
    """When two resources fail together, the error names both."""
    barrier = asyncio.Barrier(2)

    def one(name: str) -> Resource[None]:
        async def start() -> None:
            await barrier.wait()
            raise ConnectionError(name)

        return scoped("app", name=name)(start)

    with pytest.raises(StartFailed) as caught:
        async with running(also=[one("first"), one("second")]):
            pytest.fail("it started")
    assert "`first` did not start" in str(caught.value)
    assert "`second` failed too" in str(caught.value)


async def test_closes_go_on_after_one_that_raises() -> None:
    """A close that raises is reported after every other close has run."""
    log: list[str] = []

    @scoped("app")
    async def below() -> AsyncIterator[int]:
        yield 1
        log.append("below closed")

    @scoped("app")
    async def bad(below: Annotated[int, Depends(below)]) -> AsyncIterator[int]:
        yield below
        msg = "socket is gone"
        raise OSError(msg)

    with pytest.raises(CloseFailed) as caught:
        async with running(also=[bad]):
            pass
    assert log == ["below closed"]
    assert [error.message for error in caught.value.exceptions] == ["`bad` failed to close: OSError('socket is gone')"]
    assert isinstance(caught.value.exceptions[0].__cause__, OSError)


async def test_a_close_that_hangs_is_cancelled_and_the_others_run() -> None:
    """A close that does not end within its deadline is cancelled and named."""
    log: list[str] = []

    @scoped("app")
    async def below() -> AsyncIterator[int]:
        yield 1
        log.append("below closed")

    @scoped("app", close_timeout=0.05)
    async def slow(below: Annotated[int, Depends(below)]) -> AsyncIterator[int]:
        yield below
        try:
            await asyncio.Event().wait()
        finally:
            log.append("slow cancelled")

    with pytest.raises(CloseFailed, match="resource failed to close") as caught:
        async with running(also=[slow]):
            pass
    assert log == ["slow cancelled", "below closed"]
    assert "`slow` did not close within 0.05 s, and was cancelled" in str(caught.value.exceptions[0])


async def test_a_close_that_swallows_its_cancellation_is_left_behind() -> None:
    """A resource that will not end is named and left, and what it needs is closed all the same."""
    log: list[str] = []
    release = asyncio.Event()

    @scoped("app")
    async def below() -> AsyncIterator[int]:
        yield 1
        log.append("below closed")

    @scoped("app", close_timeout=0.05)
    async def stubborn(below: Annotated[int, Depends(below)]) -> AsyncIterator[int]:
        yield below
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                log.append("swallowed")

    with pytest.raises(CloseFailed) as caught:
        async with running(also=[stubborn]):
            pass
    assert log == ["swallowed", "below closed"]
    assert "left behind" in str(caught.value.exceptions[0])
    assert not any("stubborn" in task.get_name() for task in asyncio.all_tasks())
    release.set()


@pytest.mark.parametrize("how", ["async", "sync"])
def test_the_process_ends_although_a_close_never_does(how: str) -> None:
    """A program whose resource will not close, in a coroutine or a thread, exits and names the culprit."""
    close = {
        "async": """
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
""",
        "sync": "    threading.Event().wait()",
    }[how]
    program = f"""
import asyncio, threading
from tenure import running, scoped

@scoped("app", close_timeout=0.1)
{"async " if how == "async" else ""}def stubborn():
    yield 1
{close}

async def main():
    async with running(also=[stubborn]):
        pass

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "`stubborn` did not end after it was cancelled, and was left behind" in done.stderr


async def test_closing_is_not_interrupted_by_cancellation() -> None:
    """A cancelled app closes everything before the cancellation goes on."""
    log: list[str] = []
    closing = asyncio.Event()
    go_on = asyncio.Event()

    @scoped("app")
    async def careful() -> AsyncIterator[int]:
        yield 1
        closing.set()
        await go_on.wait()
        log.append("closed")

    async def main() -> None:
        async with running(also=[careful]):
            await asyncio.Event().wait()

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    task.cancel()
    await closing.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["closed"]


async def test_an_error_of_the_block_comes_first_and_closes_all() -> None:
    """An error inside of the running app goes through, with failed closes noted on it."""

    @scoped("app")
    async def bad() -> AsyncIterator[int]:
        yield 1
        msg = "close"
        raise OSError(msg)

    async def fail() -> None:
        async with running(also=[bad]):
            msg = "block"
            raise KeyError(msg)

    with pytest.raises(KeyError, match="block") as caught:
        await fail()
    assert "`bad` failed to close" in caught.value.__notes__[0]


async def test_a_resource_may_hold_a_task_group() -> None:
    """Enter and exit happen in one task, so a task group may stay open between them."""
    done: list[str] = []

    @scoped("app")
    async def group() -> AsyncIterator[asyncio.TaskGroup]:
        async with asyncio.TaskGroup() as tasks:
            yield tasks

    async def work() -> None:
        done.append("worked")

    async with running(also=[group]) as scope:
        (await scope.get(group)).create_task(work())
    assert done == ["worked"]


async def test_a_resource_that_ends_by_itself_is_refused_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    """When a resource's own task fails while the app runs, a look-up says so with the cause, and so does the close."""
    crash = asyncio.Event()

    async def worker() -> None:
        await crash.wait()
        msg = "lost the broker"
        raise ConnectionError(msg)

    @scoped("app")
    async def consumer() -> AsyncIterator[str]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker())
            yield "consumer"

    with pytest.raises(CloseFailed, match="failed to close"):  # noqa: PT012 (the whole life is what raises)
        async with running(also=[consumer]) as scope:
            assert await scope.get(consumer) == "consumer"
            crash.set()
            while "ended by itself" not in caplog.text:
                await asyncio.sleep(0)
            with pytest.raises(ResourceFailed, match="`consumer` ended by itself") as caught:
                await scope.get(consumer)
            assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_a_sync_resource_that_is_too_slow_is_closed_once_it_is_open() -> None:
    """A thread cannot be interrupted: what a sync factory opened after its deadline is closed, not leaked."""
    entered, closed = threading.Event(), threading.Event()

    @scoped("app", start_timeout=0.05, close_timeout=0.05)
    def slow() -> Iterator[int]:
        entered.wait(10)
        try:
            yield 1
        finally:
            closed.set()

    with pytest.raises(StartFailed, match="not ready after"):
        async with running(also=[slow]):
            pytest.fail("it started")
    entered.set()
    assert await asyncio.to_thread(closed.wait, 10)


async def test_a_failed_start_waits_for_what_is_still_opening_in_a_thread() -> None:
    """When one resource fails, one that a thread is still opening is awaited, within its deadline, and closed."""
    log: list[str] = []
    opening, failed = threading.Event(), threading.Event()

    @scoped("app")
    def slow() -> Iterator[int]:
        opening.set()
        failed.wait(10)
        log.append("+slow")
        yield 1
        log.append("-slow")

    @scoped("app")
    async def broken() -> None:
        await asyncio.to_thread(opening.wait, 10)
        asyncio.get_running_loop().call_later(0, failed.set)
        msg = "no"
        raise ConnectionError(msg)

    with pytest.raises(StartFailed, match="`broken` did not start") as caught:
        async with running(also=[slow, broken]):
            pytest.fail("it started")
    assert log[:1] == ["+slow"]
    assert caught.value.close_errors == ()


def test_the_server_sees_the_failed_start() -> None:
    """A server's start-up fails with the same error that names the resource."""
    log: list[str] = []
    with pytest.raises(StartFailed, match="`link3` did not start"), TestClient(app_of(*chain(log, broken=3))):
        pytest.fail("it started")
    assert log == opened_up_to(3)


async def test_the_users_lifespan_that_fails_closes_all() -> None:
    """When the user's own lifespan raises at start-up, everything that had started is closed."""
    log: list[str] = []
    resources = chain(log)

    @asynccontextmanager
    async def mine(app: FastAPI) -> AsyncIterator[None]:
        msg = f"cannot warm up {app.title}"
        raise RuntimeError(msg)
        yield

    app = FastAPI(lifespan=lifespan(mine, also=resources))
    with pytest.raises(RuntimeError, match="cannot warm up FastAPI"):
        async with running(app):
            pytest.fail("it started")
    assert log == opened_up_to(LENGTH)


async def test_the_start_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line for each resource with its time, and one with the total."""
    caplog.set_level("INFO", logger="tenure")
    async with running(also=chain([])[:2]):
        pass
    lines = [record.getMessage().split(" in ")[0] for record in caplog.records]
    assert lines == ["<lambda> ready", "link0 ready", "link1 ready", "3 resources ready"]
