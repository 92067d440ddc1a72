"""A service of the host as a host-scoped resource: each worker joins it, and it outlives every one of them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Optional

import psycopg
import pytest
from fastapi import FastAPI

from joining import worker
from processes import Worker, gone, until
from services import Answering, Endless
from tenure import lifespan, override, running, scoped
from tenure.errors import DeclarationError, StartFailed

if TYPE_CHECKING:
    from tenure.resources import Resource

Joined = Annotated[Answering, "with something beside its type"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let this process share with none but itself, and give a folder for its service."""
    with tempfile.TemporaryDirectory(prefix="tenure-test-") as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        monkeypatch.setenv("TENURE_DEPLOYMENT", "test")
        yield Path(place) / "service"
        until(lambda: gone(Path(place) / "service"))


async def value_of(resource: Resource[Any]) -> Any:
    """Start a resource, and give its value."""
    async with running(also=[resource]) as scope:
        return await scope.get(resource)


def test_a_killed_worker_disturbs_no_query_of_the_others(folder: Path, workers: list[Worker]) -> None:
    """The worker that started the server is killed while others query it; it ends when the last one is killed."""
    workers += [Worker(worker, folder)]
    told = workers[0].address()
    workers += [Worker(worker, folder) for _ in range(2)]
    assert [each.address() for each in workers[1:]] == [told, told]
    _, dsn = told.split()

    with psycopg.connect(dsn, autocommit=True) as session, psycopg.connect(dsn, autocommit=True) as looking:
        found: list[Any] = []
        querying = Thread(target=lambda: found.extend(session.execute("SELECT 1 FROM pg_sleep(2)").fetchall()))
        querying.start()
        active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
        until(lambda: looking.execute(active).fetchone() == (1,))
        workers[0].kill()
        querying.join()
        assert found == [(1,)]
        workers.append(Worker(worker, folder))
        assert workers[-1].address() == told
        assert looking.execute("SELECT count(*) FROM migrations").fetchone() == (1,)
    for each in workers[1:]:
        each.kill()
    until(lambda: gone(folder))


def test_the_last_worker_that_leaves_ends_it(folder: Path, workers: list[Worker]) -> None:
    """The first one may leave in good order before the others; with the last the server is gone."""
    workers += [Worker(worker, folder) for _ in range(2)]
    _, dsn = {each.address() for each in workers}.pop().split()
    workers[0].leave()
    with psycopg.connect(dsn) as session:
        assert session.execute("SELECT count(*) FROM migrations").fetchone() == (1,)
    workers[1].leave()
    until(lambda: gone(folder))


async def test_it_is_entered_for_each_app(alone: Path) -> None:
    """Two apps of one process have an instance each, of one service; a sync function may make it."""

    @scoped("host")
    def service() -> Joined:
        return Answering(alone)

    async with running(also=[service]) as one, running(also=[service]) as other:
        first, second = await one.get(service), await other.get(service)
        assert first is not second
        assert first.pid() == second.pid()


async def test_none_is_given_on_where_no_service_is_needed(alone: Path) -> None:
    """A function may say that this worker joins nothing."""

    @scoped("host")
    async def service() -> Optional[Answering]:  # noqa: UP045 (as some write it)
        return None

    assert await value_of(service) is None


async def test_one_that_is_called_off_holds_nothing(alone: Path) -> None:
    """A service that takes longer than its resource may is given up by the process that waits for it."""

    @scoped("host", start_timeout=0.5)
    def service() -> Answering:
        return Endless(alone)

    with pytest.raises(StartFailed, match=r"`service` did not start: .*it was not ready after 0.5 s"):
        await value_of(service)
    until(lambda: gone(alone))


async def test_an_override_is_made_by_each_app_for_itself(alone: Path) -> None:
    """What replaces it in a test may be anything, and the service is not started."""

    @scoped("host")
    def service() -> Answering:
        return Answering(alone)

    app = FastAPI(lifespan=lifespan(also=[service]))
    with override(app, {service: lambda: "a double"}):
        async with running(app) as scope:
            assert await scope.get(service) == "a double"
    assert gone(alone)


@scoped("host")
async def generator() -> AsyncIterator[Answering]:
    """Open and close it."""
    with Answering("unused") as service:
        yield service


@scoped("host")
def either() -> Answering | str:
    """Give a service or its address."""
    return "elsewhere"


@scoped("cluster")
def everywhere() -> Answering:
    """Give all machines a service of one."""
    return Answering("unused")


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        (generator, "host-scoped `generator` gives a service, `Answering`, that it opens .*return it as it was made"),
        (either, "host-scoped `either` gives a service, `Answering`, or something else.*`-> Answering | None`"),
        (everywhere, 'cluster-scoped `everywhere` gives a service of one machine.*`@scoped."host".`'),
    ],
)
async def test_a_service_that_workers_could_not_join_is_refused(resource: Resource[Any], text: str) -> None:
    """The annotation tells; nothing has started, and the error says what to write."""
    app = FastAPI(lifespan=lifespan(also=[resource], deployment="test", state="valkey://127.0.0.1:1"))
    with pytest.raises(DeclarationError, match=f"(?s){text}"):
        async with running(app):
            pass


async def test_what_is_no_service_is_refused(alone: Path) -> None:
    """A function that gives something else than it says is named."""

    @scoped("host")
    def service() -> Answering:
        return "elsewhere"  # type: ignore[return-value]

    with pytest.raises(StartFailed, match="`service` is to give a service, and gave str"):
        await value_of(service)


async def test_a_service_without_an_annotation_is_told_how_to_write_one(alone: Path) -> None:
    """A service is no data, and the error says that an annotation lets workers join it."""

    @scoped("host")
    def service():  # type: ignore[no-untyped-def] # noqa: ANN202
        return Answering(alone)

    with pytest.raises(StartFailed, match="annotate it, `-> Answering`, and each worker joins the service"):
        await value_of(service)
