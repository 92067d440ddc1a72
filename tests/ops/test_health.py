"""Health checks: how they are declared, when and how they run, and what becomes of their results."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI

from tenure import Counter, Resource, lifespan, override, running, scoped
from tenure.checks import Verdict
from tenure.errors import DeclarationError, PlanError
from tenure.host.valkey import EmbeddedValkey
from tenure.observers import watched_by
from tenure.ops import Degraded, ops_router
from tenure.pools import httpx, sqlalchemy, valkey
from tenure.pools.asyncpg import Pool, PoolResource, pool
from tenure.pools.valkey import ValkeyPool
from tests.ops.asking import answer_of, app_of, check_of, client_of, served
from tests.waiting import until

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tenure.observers import End, What
    from tests.pools.proxy import Proxy

pytestmark = pytest.mark.usefixtures("development")

OFTEN = 0.02
SELDOM = 3600


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """Run a Valkey."""
    with EmbeddedValkey(tmp_path) as server:
        yield server


def thing(name: str = "thing") -> Resource[list[str]]:
    """Declare something to be checked, a list of what happened to it."""

    async def made() -> AsyncIterator[list[str]]:
        happened: list[str] = []
        yield happened
        happened.append("closed")

    return scoped("app", name=name)(made)


def broken() -> None:
    """Raise."""
    msg = "no such table"
    raise LookupError(msg)


def impatient() -> None:
    """Raise what says nothing."""
    raise TimeoutError


# --- the declaration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("verdict", "status", "output"),
    [
        (lambda: None, "pass", None),
        (lambda: True, "pass", None),
        (lambda: False, "fail", "it said no"),
        (broken, "fail", "LookupError: no such table"),
        (impatient, "fail", "TimeoutError"),
        (lambda: Degraded("replica lags 30 s"), "warn", "replica lags 30 s"),
        (lambda: Degraded(7), "warn", "7"),  # type: ignore[arg-type] # what a program may do all the same
        (lambda: "yes", "fail", "it gave str, which says neither yes nor no"),
    ],
)
async def test_what_a_check_gives_is_its_status(
    verdict: Callable[[], Any], status: str, output: str | None, *, is_sync: bool
) -> None:
    """Nothing and True pass, False and an error fail, `Degraded` warns, and anything else fails, as it says nothing."""
    resource = thing()
    if is_sync:

        @resource.health
        def check(value: list[str]) -> Any:
            assert value == []
            return verdict()
    else:

        @resource.health
        async def check(value: list[str]) -> Any:
            assert value == []
            return verdict()

    async with served(app_of(resource)) as client:
        told = await check_of(client, "thing")
    assert (told["status"], told.get("output")) == (status, output)


async def test_a_check_says_what_it_is() -> None:
    """Its name, whether it is critical, and its groups are what was said; unsaid, it has the resource's name."""
    resource = thing()

    @resource.health
    async def plain(value: list[str]) -> None:
        """Pass."""

    @resource.health(name="rows", critical=True, tags=("db", "slow"), timeout=3, every=SELDOM)
    async def with_words(value: list[str]) -> None:
        """Pass."""

    async with served(app_of(resource)) as client:
        unsaid, said = await check_of(client, "thing"), await check_of(client, "rows")
    facts = ("componentId", "scope", "critical", "tags", "stale")
    assert [unsaid[fact] for fact in facts] == ["thing", "app", False, [], False]
    assert [said[fact] for fact in facts] == ["thing", "app", True, ["db", "slow"], False]
    assert said["observedUnit"] == "ms"
    assert 0 <= said["observedValue"] < 3000


async def test_a_decorated_function_stays_what_it_was() -> None:
    """What is decorated may be called as ever, in a unit test for one."""
    resource = thing()

    def check(value: list[str]) -> bool:
        return value == ["well"]

    assert resource.health(check) is check
    assert resource.health(name="again")(check) is check
    assert check(["well"])


async def test_a_sync_check_may_block() -> None:
    """It runs in a thread that is its own, so that it may ask a driver that blocks."""
    resource = thing()
    threads: list[threading.Thread] = []

    @resource.health
    def check(value: list[str]) -> None:
        threads.append(threading.current_thread())
        time.sleep(0.01)

    async with served(app_of(resource)) as client:
        await check_of(client, "thing", lambda check: check["status"] == "pass")
    assert threading.current_thread() not in threads


async def test_a_resource_that_is_a_method_has_methods_as_checks() -> None:
    """Each object's resource is checked by the object's own method; a static method takes the value alone."""

    class Database:
        """Something with a resource among its methods."""

        def __init__(self, name: str) -> None:
            self.name = name

        @scoped("app")
        async def table(self) -> str:
            """Give something."""
            return f"table of {self.name}"

        @table.health
        async def answers(self, table: str) -> Verdict:
            """Check it."""
            return Degraded(f"{table}, asked by {self.name}")

        @table.health(name="static")
        @staticmethod
        def is_there(table: str) -> bool:
            """Check it too."""
            return bool(table)

    users = Database("users")
    assert users.table is users.table
    async with served(app_of(users.table)) as client:
        assert (await check_of(client, "table"))["output"] == "table of users, asked by users"
        await check_of(client, "static", lambda check: check["status"] == "pass")


async def test_a_check_of_one_object_is_not_another_objects() -> None:
    """What is declared on the resource of one object alone is run for that, and for no other."""

    class Database:
        """Something with a resource among its methods."""

        @scoped("app")
        async def table(self) -> Database:
            """Give something."""
            return self

    one, other = Database(), Database()
    seen: list[Database] = []

    @one.table.health
    async def check(table: Database) -> None:
        seen.append(table)

    async with served(app_of(one.table, other.table)) as client:
        await check_of(client, "table")
    assert set(map(id, seen)) == {id(one)}


async def test_a_handle_of_shared_state_can_be_checked() -> None:
    """A check of a counter gets the counter that the app has."""
    orders = Counter("orders", scope="app")

    @orders.health
    async def few(orders: Counter) -> Verdict:
        return Degraded("many orders") if orders.value > 1 else None

    app = app_of(orders)

    async with running(app) as scope, client_of(app) as client:
        await check_of(client, "orders", lambda check: check["status"] == "pass")
        (await scope.get(orders)).add(2)
    orders.health(name="often", every=OFTEN)(few)
    async with running(app) as scope, client_of(app) as client:
        (await scope.get(orders)).add(2)
        await check_of(client, "often", lambda check: check["status"] == "warn")


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda resource: resource.health(timeout=0)(broken_check), "timeout=0"),
        (lambda resource: resource.health(every=-1)(broken_check), "every=-1"),
        (lambda resource: resource.health(name="")(broken_check), "name=''"),
        (lambda resource: resource.health(tags="db")(broken_check), "tags='db'"),
        (lambda resource: resource.health(tags=("",))(broken_check), r"tags=\(''"),
        (lambda resource: resource.health(lambda: None), "takes 0 arguments"),
        (lambda resource: resource.health(lambda one, two: None), "takes 2 arguments"),
        (lambda resource: resource.health(lambda value, *, key: None), "takes 2 arguments"),
        (lambda resource: resource.health("SELECT 1"), "cannot be a health check"),
    ],
)
def test_a_check_that_cannot_be_is_refused(declare: Callable[[Any], object], message: str) -> None:
    """Times above 0, tags in a tuple, one argument: what is declared otherwise is refused where it stands."""
    with pytest.raises(DeclarationError, match=message):
        declare(thing())


def broken_check(value: object) -> None:
    """Take what a check takes."""


@pytest.mark.parametrize(
    "check", [lambda value: None, lambda value, limit=5: None, lambda value=None: None, lambda *values: None, print]
)
def test_a_check_takes_one_argument_by_whatever_name(check: Callable[..., None]) -> None:
    """What else it may be given does not matter."""
    thing().health(check)


@pytest.mark.parametrize("scope", ["function", "request"])
def test_what_is_made_for_each_request_cannot_be_checked(scope: Any) -> None:
    """There is nothing to check between requests: the declaration is refused."""
    with pytest.raises(DeclarationError, match="no value between requests"):
        scoped(scope)(lambda: 1).health(broken_check)


async def test_two_checks_of_one_name_are_refused_at_the_start() -> None:
    """Both are told, each with the line where it stands, in the report of all that is wrong."""
    one, other = thing("one"), thing("other")
    one.health(name="rows")(broken_check)
    other.health(name="rows")(broken_check)
    one.health(broken_check)
    one.health(broken_check)
    with pytest.raises(PlanError) as raised:
        async with running(app_of(one, other)):
            pytest.fail("it started")
    findings = raised.value.findings
    assert [finding.message for finding in findings] == [
        "2 health checks are named `rows`",
        "2 health checks are named `one`",
    ]
    line = broken_check.__code__.co_firstlineno
    assert findings[0].path == (
        f"one  app  tests/ops/test_health.py:{line}",
        f"other  app  tests/ops/test_health.py:{line}",
    )


async def test_two_resources_of_one_name_are_one_mistake() -> None:
    """That their checks have one name too is not told a second time."""
    with pytest.raises(PlanError) as raised:
        async with running(app_of(pool("postgresql://one"), pool("postgresql://other"))):
            pytest.fail("it started")
    assert [finding.message for finding in raised.value.findings] == ["2 resources are named `pool`"]


# --- running ----------------------------------------------------------------------------------------------------------


async def test_checks_run_at_the_same_time() -> None:
    """Two that wait for each other both pass."""
    one, other, both = thing("one"), thing("other"), asyncio.Barrier(2)
    for resource in (one, other):

        @resource.health(timeout=10)
        async def meets(value: list[str]) -> None:
            await both.wait()

    async with served(app_of(one, other)) as client:
        await check_of(client, "one", lambda check: check["status"] == "pass")
        await check_of(client, "other", lambda check: check["status"] == "pass")


async def test_reading_runs_no_check() -> None:
    """However often one asks, a check runs once in its period; before and after, the last result is told."""
    resource, count = thing(), 0

    @resource.health(every=SELDOM, critical=True)
    async def counted(value: list[str]) -> None:
        nonlocal count
        count += 1

    async with served(app_of(resource)) as client:
        first = await check_of(client, "thing")
        for path in ("/livez", "/readyz", "/readyz?verbose", "/readyz/thing", "/ops/health", "/ops/graph.json") * 5:
            assert (await client.get(path)).status_code == 200
        assert await check_of(client, "thing") == first
    assert count == 1


async def test_a_check_is_run_again_after_its_period() -> None:
    """It goes on for as long as the app runs."""
    resource, rounds = thing(), asyncio.Semaphore(0)

    @resource.health(every=OFTEN)
    async def counted(value: list[str]) -> None:
        rounds.release()

    async with asyncio.timeout(20), served(app_of(resource)):
        for _ in range(5):
            await rounds.acquire()


async def test_nothing_is_checked_without_a_router() -> None:
    """An app that tells nobody how it is spends nothing on it."""
    resource = thing()

    @resource.health(every=OFTEN)
    async def check(value: list[str]) -> None:
        value.append("checked")

    async with running(FastAPI(lifespan=lifespan(also=[resource]))) as scope:
        await asyncio.sleep(3 * OFTEN)
        assert await scope.get(resource) == []


async def test_a_check_that_takes_too_long_fails() -> None:
    """It is cancelled, and what it held is given back."""
    resource, cancelled = thing(), asyncio.Event()

    @resource.health(timeout=0.05, every=SELDOM)
    async def hangs(value: list[str]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with served(app_of(resource)) as client:
        told = await check_of(client, "thing")
        async with asyncio.timeout(20):
            await cancelled.wait()
    assert (told["status"], told["output"]) == ("fail", "no answer within 0.05 s")
    assert told["observedValue"] >= 50


async def test_a_check_that_will_not_end_is_not_started_twice() -> None:
    """While it runs on after its cancellation it fails; once it has ended, it is run again."""
    resource, ended, calls = thing(), asyncio.Event(), 0

    @resource.health(timeout=OFTEN, every=OFTEN)
    async def stubborn(value: list[str]) -> None:
        nonlocal calls
        calls += 1
        while not ended.is_set():
            with suppress(asyncio.CancelledError):
                await ended.wait()

    async with served(app_of(resource)) as client:
        await check_of(client, "thing", lambda check: "not ended yet" in check.get("output", ""))
        before = (await check_of(client, "thing"))["time"]
        await check_of(client, "thing", lambda check: check["time"] != before)
        assert calls == 1
        ended.set()
        await check_of(client, "thing", lambda check: check["status"] == "pass")


async def test_a_thread_that_will_not_end_is_not_started_twice() -> None:
    """A sync check cannot be cancelled: it is one thread that hangs, however often it is to be run."""
    resource, ended, calls = thing(), threading.Event(), 0

    @resource.health(timeout=OFTEN, every=OFTEN)
    def stubborn(value: list[str]) -> None:
        nonlocal calls
        calls += 1
        ended.wait(20)

    async with served(app_of(resource)) as client:
        await check_of(client, "thing", lambda check: "not ended yet" in check.get("output", ""))
        assert calls == 1
        ended.set()
        await check_of(client, "thing", lambda check: check["status"] == "pass")


async def test_a_check_that_will_not_end_does_not_hold_up_the_close(caplog: pytest.LogCaptureFixture) -> None:
    """It is left behind, with a word about it in the log."""
    resource, ended = thing(), asyncio.Event()

    @resource.health(timeout=OFTEN)
    async def stubborn(value: list[str]) -> None:
        while not ended.is_set():
            with suppress(asyncio.CancelledError):
                await ended.wait()

    async with asyncio.timeout(20):
        async with served(app_of(resource)) as client:
            await check_of(client, "thing")
        assert "check thing did not end when it was cancelled, and was left behind" in caplog.messages
        ended.set()
        await asyncio.sleep(0)


async def test_a_closing_app_is_not_said_to_be_ill(caplog: pytest.LogCaptureFixture) -> None:
    """A check that runs while its resource is closed says nothing more, and none runs after that."""
    resource, runs = thing(), asyncio.Event()
    held: list[list[str]] = []

    @resource.health(every=OFTEN)
    async def check(value: list[str]) -> Verdict:
        held.append(value)
        runs.set()
        await asyncio.sleep(0)
        return "closed" not in value

    async with asyncio.timeout(20), served(app_of(resource)):
        await runs.wait()
    count = len(held)
    await asyncio.sleep(3 * OFTEN)
    assert len(held) == count
    assert not [message for message in caplog.messages if "fails" in message]


async def test_an_old_result_is_a_warning() -> None:
    """What passed more than three periods ago says too little of how it is now: it is stale, and warns."""
    resource, calls = thing(), 0

    @resource.health(every=OFTEN, timeout=SELDOM)
    async def hangs_later(value: list[str]) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            await asyncio.Event().wait()

    async with served(app_of(resource)) as client:
        told = await check_of(client, "thing", lambda check: check["stale"])
        assert (told["status"], told["output"]) == ("warn", "it has not been checked for some time")
        assert (await client.get("/readyz")).json()["status"] == "warn"


async def test_a_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A check that fails is logged when it begins to, and when it passes again; a critical one as an error."""
    resource, is_well = thing(), False

    @resource.health(every=OFTEN, critical=True)
    async def check(value: list[str]) -> Verdict:
        value.append("checked")
        return is_well

    caplog.set_level(logging.INFO, "tenure")
    app = app_of(resource)
    async with running(app) as scope, client_of(app) as client:
        value = await scope.get(resource)
        await until(lambda: len(value) > 5)
        is_well = True
        await check_of(client, "thing", lambda check: check["status"] == "pass")
        await until(lambda: len(value) > 10)
    records = [record for record in caplog.records if record.msg.startswith("check ")]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("ERROR", "check thing fails: it said no"),
        ("INFO", "check thing passes again"),
    ]
    assert vars(records[0])["tenure_check"] == "thing"
    assert vars(records[0])["tenure_status"] == "fail"


async def test_a_slow_check_is_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes much of its time passes, and is told of in the log before it fails one day."""
    monkeypatch.setattr("tenure.ops.health.SLOW", 0.001)
    resource = thing()

    @resource.health(every=OFTEN, timeout=10)
    async def slow(value: list[str]) -> None:
        await asyncio.sleep(0.02)
        value.append("checked")

    app = app_of(resource)
    async with running(app) as scope, client_of(app) as client:
        value = await scope.get(resource)
        await until(lambda: len(value) > 2)
        await check_of(client, "thing", lambda check: check["status"] == "pass")
    assert len([message for message in caplog.messages if message.startswith("check thing is slow: 0.")]) == 1


async def test_what_has_ended_by_itself_fails_its_checks(caplog: pytest.LogCaptureFixture) -> None:
    """A resource whose own task has ended is not asked any more: it is known to be gone. Its start had gone well."""
    gone = asyncio.Event()

    @scoped("app")
    async def consumer() -> AsyncIterator[str]:
        async def consume() -> None:
            await gone.wait()
            msg = "the queue is closed"
            raise RuntimeError(msg)

        async with asyncio.TaskGroup() as group:
            group.create_task(consume())
            yield "consumer"

    @consumer.health(every=OFTEN)
    async def check(value: str) -> None:
        """Pass."""

    async with client_of(app := app_of(consumer)) as client:
        with suppress(ExceptionGroup):
            async with running(app):
                await check_of(client, "consumer", lambda check: check["status"] == "pass")
                gone.set()
                told = await check_of(client, "consumer", lambda check: check["status"] == "fail")
                assert told["output"] == "`consumer` has ended by itself"
    assert "Failed to detach context" not in caplog.messages  # OpenTelemetry's, of a span that is ended twice


async def test_who_observes_an_app_is_told_of_each_check() -> None:
    """What begins is told with its name and scope, and its end with what went wrong, if something did."""
    resource, told = thing(), list[tuple[Any, ...]]()

    class Observer:
        """Writes down what is told of checks."""

        def begin(self, what: What, name: str, scope: str) -> End:
            if what != "check":
                return lambda _: None
            told.append((name, scope))
            return lambda error: told.append((name, type(error)))

        def waited(self, pool: str, seconds: float, error: BaseException | None) -> None:
            """Do nothing."""

        def used(self, pool: str, seconds: float) -> None:
            """Do nothing."""

    @resource.health(every=SELDOM)
    async def fails(value: list[str]) -> None:
        broken()

    with watched_by(Observer()):
        async with served(app_of(resource)) as client:
            await check_of(client, "thing")
    assert told == [("thing", "app"), ("thing", LookupError)]


async def test_what_starts_later_is_checked_later() -> None:
    """While an app starts in the background, what is ready is checked, and nothing else; and it is not ready itself."""
    slow_may_start = asyncio.Event()

    @scoped("app")
    async def slow() -> str:
        await slow_may_start.wait()
        return "slow"

    quick = thing("quick")
    checked: list[str] = []
    quick.health(critical=True)(lambda value: checked.append("quick"))
    slow.health(critical=True)(checked.append)
    app = FastAPI(lifespan=lifespan(also=[quick, slow], start="background"))
    app.include_router(ops_router())
    async with client_of(app) as client, app.router.lifespan_context(app):
        told = await answer_of(client, "/readyz", lambda answer: "time" in str(answer.json().get("checks")))
        assert told.status_code == 503
        assert told.json()["output"] == "the app is starting"
        assert told.json()["pending"] == ["slow"]
        assert checked == ["quick"]
        slow_may_start.set()
        await answer_of(client, "/readyz", lambda answer: answer.status_code == 200)
    assert checked == ["quick", "slow"]


# --- overrides --------------------------------------------------------------------------------------------------------


async def test_a_fake_is_not_checked() -> None:
    """What replaces a resource in a test is none of its checks' business, a pool's own among them."""
    resource, database = thing(), pool("postgresql://nobody@127.0.0.1:1/nothing")
    resource.health(critical=True)(lambda value: False)
    app = app_of(resource, database)
    with override(app, {resource: lambda: ["fake"], database: lambda: "fake"}):
        async with served(app) as client:
            answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "pass"}


async def test_a_resource_that_replaces_another_brings_its_own_checks() -> None:
    """It is a resource as any other."""
    resource, other = thing(), thing("other")
    resource.health(lambda value: False)
    other.health(lambda value: Degraded("as it should"))
    app = app_of(resource)
    with override(app, {resource: other}):
        async with served(app) as client:
            assert (await check_of(client, "other"))["status"] == "warn"
            assert "thing:responseTime" not in (await client.get("/ops/health")).json()["checks"]


# --- tenure's own pools -----------------------------------------------------------------------------------------------


def app_with(database: PoolResource) -> FastAPI:
    """Make an app with a handler that holds a connection while it waits."""
    app = app_of(database)

    @app.get("/held")
    async def held(pool: Pool = Depends(database)) -> None:
        async with pool.borrow() as connection:
            await connection.fetchval("SELECT pg_sleep(20)")

    return app


async def test_a_pool_comes_with_a_check(dsn: str) -> None:
    """It passes while the server answers, and is told as that of a data store."""
    async with served(app_of(pool(dsn))) as client:
        told = await check_of(client, "pool")
    assert (told["status"], told["componentType"], told["critical"]) == ("pass", "datastore", False)


async def test_a_pool_whose_server_is_silent_fails(
    proxied: Callable[[], AbstractAsyncContextManager[Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to run into it: a pool that has been quiet asks the server itself."""
    monkeypatch.setattr("tenure.pools.base.QUIET", 0.05)
    async with proxied() as proxy:
        database = pool(proxy.dsn)
        database.health(name="pool", every=OFTEN, timeout=0.3, critical=True)(Pool.check)
        async with served(app_of(database)) as client:
            await answer_of(client, "/readyz", lambda answer: answer.status_code == 200)
            proxy.fall_silent()
            answer = await answer_of(client, "/readyz", lambda answer: answer.status_code == 503)
            assert answer.json()["checks"]["pool:responseTime"][0]["output"] == "no answer within 0.3 s"
            proxy.speak()
            await answer_of(client, "/readyz", lambda answer: answer.status_code == 200)


async def test_a_pool_that_knows_of_the_silence_asks_nobody(
    proxied: Callable[[], AbstractAsyncContextManager[Proxy]],
) -> None:
    """The check says at once what everyone is told who wants a connection."""
    async with proxied() as proxy:
        database = pool(proxy.dsn)
        database.health(name="pool", every=OFTEN)(Pool.check)
        app = app_with(database)
        async with served(app) as client:
            held = asyncio.create_task(client.get("/held"))
            await check_of(client, "pool", lambda check: check["status"] == "pass")
            proxy.fall_silent()
            told = await check_of(client, "pool", lambda check: "silent" in check.get("output", ""))
            assert told["status"] == "fail"
            assert told["observedValue"] < 250
            assert (await held).status_code == 503
            proxy.speak()


async def test_a_full_pool_is_degraded_and_loses_nothing_to_its_check(dsn: str) -> None:
    """Borrowers that wait are a warning: the app stays ready, and the check waits for no connection itself."""
    database = pool(dsn, max_size=1, acquire_timeout=20)
    database.health(name="pool", every=OFTEN, critical=True)(Pool.check)
    app = app_with(database)
    async with running(app) as scope, client_of(app) as client:
        opened = await scope.get(database)
        requests = [asyncio.create_task(client.get("/held")) for _ in range(2)]
        told = await check_of(client, "pool", lambda check: check["status"] == "warn")
        assert told["output"] == "1 wait for one of 1 connections"
        assert (await client.get("/readyz")).status_code == 200
        assert (opened.stats.in_use, opened.stats.waiting) == (1, 1)
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
        await check_of(client, "pool", lambda check: check["status"] == "pass")


async def test_a_check_of_the_same_name_takes_the_place_of_a_pools_own(dsn: str) -> None:
    """So a program says that its database is critical, or asks it something else."""
    database = pool(dsn)

    @database.health(critical=True)
    async def rows(pool: Pool) -> Verdict:
        async with pool.borrow() as connection:
            return Degraded(f"{await connection.fetchval('SELECT 7')} rows")

    async with served(app_of(database)) as client:
        told = await check_of(client, "pool")
    assert (told["output"], told["critical"]) == ("7 rows", True)


async def test_a_pool_that_is_used_is_not_asked(
    proxied: Callable[[], AbstractAsyncContextManager[Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody has just been answered, the check opens no connection of its own to hear that again."""
    monkeypatch.setattr("tenure.pools.base.QUIET", 5)
    async with proxied() as proxy:
        database, most = pool(proxy.dsn, max_size=1), 0
        checked: list[None] = []

        @database.health(every=OFTEN)
        async def check(pool: Pool) -> Verdict:
            checked.append(None)
            return await pool.check()

        async with running(app_of(database)) as scope:
            opened = await scope.get(database)
            while len(checked) < 10:
                async with opened.borrow() as connection:
                    await connection.fetchval("SELECT 1")
                most = max(most, proxy.open)
                await asyncio.sleep(OFTEN / 4)
    assert most == 1


async def test_the_pools_of_every_driver_come_with_a_check(
    dsn: str, cache: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of an engine or a client has the name of its pool; each asks its server, and is answered or not."""
    monkeypatch.setattr("tenure.pools.base.QUIET", -1)
    store = valkey.client(cache.url())
    store.pool.health(name="valkey.pool", every=1)(ValkeyPool.check)
    resources = [pool(dsn), sqlalchemy.engine(dsn), sqlalchemy.sync_engine(dsn), store, httpx.client()]
    async with served(app_of(*resources)) as client:
        for name in ("pool", "engine.pool", "sync_engine.pool", "valkey.pool", "client.pool"):
            assert (await check_of(client, name))["status"] == "pass"
        await asyncio.to_thread(cache.release)
        told = await check_of(client, "valkey.pool", lambda check: check["status"] == "fail")
        assert told["output"].startswith("Unreachable: the server of pool `valkey` cannot be used: ")
