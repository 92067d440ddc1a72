"""A client of Valkey: who has its connections, what is refused and how soon, what a silent or dead server leaves."""

import asyncio
import importlib
import logging
import random
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from traceback import format_exception
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as DriverConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as DriverTimeoutError

from tenure import lifespan, override, running, scoped
from tenure.errors import AlreadyClosed, DeclarationError, MissingExtra, StartFailed
from tenure.host.valkey import EmbeddedValkey, find_server
from tenure.pools.errors import PoolExhausted, Unreachable
from tenure.pools.valkey import PoolSettings, client
from tests.pools.apps import SIZE, served
from tests.pools.proxy import ValkeyProxy
from tests.pools.silences import outlive_silence
from tests.waiting import until

GIVEN_UP = 1000
"""Seconds that none of these tests waits: what is bounded by less is not bounded by this."""


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server, and give its address."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url()


@pytest.fixture
async def aside(url: str) -> AsyncIterator[Redis]:
    """Look at the server from aside."""
    async with Redis.from_url(url, decode_responses=True, driver_info=None) as client:
        yield client


async def connections(aside: Redis, name: str) -> set[str]:
    """Give the server's own list of the connections of a client that is known to it by name."""
    return {each["id"] for each in await aside.client_list() if each["name"] == name}


@pytest.fixture
def own_server(tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[str]]:
    """Give what runs a server at the same address each time, for a block, and kills it."""
    program, socket = find_server(), tmp_path / "valkey"

    @asynccontextmanager
    async def opened() -> AsyncIterator[str]:
        options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--loglevel", "nothing")
        process = await asyncio.create_subprocess_exec(program, *options)
        try:
            async with Redis(unix_socket_path=str(socket), driver_info=None) as client, asyncio.timeout(20):
                while not await answers(client):
                    await asyncio.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            process.kill()
            await process.wait()

    return opened


async def answers(client: Redis) -> bool:
    """Tell whether the server of a client answers."""
    try:
        return await client.ping()
    except RedisError:
        return False


async def test_one_client_serves_handlers_and_closes_its_connections_at_the_end(url: str, aside: Redis) -> None:
    """Handlers share one client, which holds a connection for each command only, and nothing is open after the app."""
    store = client(url, max_size=2, options={"client_name": "shared"})
    app = FastAPI(lifespan=lifespan)
    go_on = asyncio.Event()
    counted: list[int] = []
    seen: list[Redis] = []

    @app.get("/waits")
    async def waits(store: Annotated[Redis, Depends(store)]) -> None:
        counted.append(await store.incr("shared"))
        seen.append(store)
        await go_on.wait()

    async with served(app, store.pool) as (browser, pool):
        waiting = [asyncio.create_task(browser.get("/waits")) for _ in range(50)]
        await until(lambda: len(seen) == 50)
        assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)
        assert len(await connections(aside, "shared")) == pool.stats.open <= 2
        go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert sorted(counted) == list(range(1, 51))
    assert len(set(map(id, seen))) == 1
    async with asyncio.timeout(20):
        while await connections(aside, "shared"):
            await asyncio.sleep(0.01)
    with pytest.raises(AlreadyClosed, match="pool `valkey` was used after its app had closed it"):
        await seen[0].get("late")


async def test_a_pool_that_is_exhausted_is_said_with_who_holds_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The browser has a 503; who can do without catches redis-py's error; the log has the holders' routes and lines."""
    store = client(url, name="store", max_size=2, acquire_timeout=0.3)
    app = FastAPI(lifespan=lifespan)

    @app.get("/queues/{name}")
    async def queue(name: str, store: Annotated[Redis, Depends(store)]) -> None:
        await store.blpop([name], timeout=0)

    @app.get("/probe")
    async def probe(store: Annotated[Redis, Depends(store)]) -> str | None:
        return await store.get("nothing")

    @app.get("/careful")
    async def careful(store: Annotated[Redis, Depends(store)]) -> str | None:
        try:
            return await store.get("nothing")
        except RedisError as error:
            return f"{isinstance(error, PoolExhausted)}"

    async with served(app, store.pool) as (browser, pool):
        held = [asyncio.create_task(browser.get(f"/queues/{number}")) for number in range(2)]
        await until(lambda: pool.stats.in_use == 2)
        refused = await browser.get("/probe")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json() == {"detail": "the service is too busy at the moment"}
        assert (await browser.get("/careful")).json() == "True"
        assert (pool.stats.refused, len(pool.holders())) == (2, 2)
        for task in held:
            task.cancel()
        await until(lambda: pool.stats.in_use == 0)
        assert (await browser.get("/probe")).json() is None
    said = next(record.message for record in caplog.records if "pool-exhausted" in record.message)
    assert "no connection of pool `store` was free within 0.3 s: all 2 are out" in said
    found = re.findall(r"out for [\d.]+ s: GET /queues/\{name\}, borrowed at tests/pools/test_valkey.py:\d+", said)
    assert len(found) == 2


@pytest.mark.parametrize("times", [1, 2])
async def test_a_storm_of_cancellations_mixes_no_answers_up(url: str, aside: Redis, times: int) -> None:
    """Of 1,000 users cancelled at any point, some twice, none gets another's answer or keeps a connection."""
    chance = random.Random(7)  # noqa: S311 (nothing is secret about it)
    loop = asyncio.get_running_loop()
    finished = 0
    store = client(url, max_size=SIZE, acquire_timeout=GIVEN_UP, options={"client_name": f"storm{times}"})
    async with running(also=[store, store.pool]) as scope:
        opened, pool = await scope.get(store), await scope.get(store.pool)

        async def command(number: int) -> bool:
            return await opened.echo(f"{number}") == f"{number}".encode()

        async def pipeline(number: int) -> bool:
            async with opened.pipeline() as pipeline:
                await pipeline.watch("watched")
                assert await pipeline.echo(f"{number}") == f"{number}".encode()
                pipeline.multi()
                pipeline.echo(f"{number}").echo(f"{number + 1}")
                return await pipeline.execute() == [f"{number}".encode(), f"{number + 1}".encode()]

        for number in range(20):
            tasks = [asyncio.create_task(chance.choice((command, pipeline))(100 * number + each)) for each in range(50)]
            for task in tasks:
                later = chance.uniform(0, 0.06)
                for _ in range(times):
                    loop.call_later(later, task.cancel)
                    later += chance.uniform(0, 0.001)
            await asyncio.sleep(0.01)
            await pool.update_active_connections_for_reconnect()  # so that to give one back is a wait, too
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes if outcome is not True} <= {asyncio.CancelledError}
            finished += outcomes.count(True)
        await until(lambda: pool.stats.in_use == 0)
        async with asyncio.timeout(20):
            assert all(await asyncio.gather(*[command(number) for number in range(50)]))
            assert all(await asyncio.gather(*[pipeline(number) for number in range(50)]))
            while len(await connections(aside, f"storm{times}")) > SIZE:  # of those that were given up
                await asyncio.sleep(0.01)
        assert (pool.stats.in_use, pool.stats.waiting, pool.stats.open) == (0, 0, SIZE)
    assert 0 < finished < 1000


async def test_a_silent_server_is_noticed_and_everyone_refused_until_it_speaks(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for an answer is ended in seconds, others are refused at once, and what follows is answered again."""
    async with ValkeyProxy(url) as proxy:
        store = client(proxy.url, name="store", max_size=SIZE, command_timeout=GIVEN_UP, acquire_timeout=GIVEN_UP)
        async with running(also=[store, store.pool]) as scope:
            opened, pool = await scope.get(store), await scope.get(store.pool)
            for _ in range(2):  # first with one connection open, and others that are being opened
                heard = await outlive_silence(proxy, pool, lambda: opened.echo("1"), b"1")
                assert all(isinstance(each, Unreachable) and isinstance(each, RedisError) for each in heard)
    assert [record.message for record in caplog.records].count("the server of pool store answers again") == 2


async def test_what_was_open_before_a_silence_is_checked_after_it(url: str) -> None:
    """Connections that the network has forgotten meanwhile are replaced, however short they were idle."""
    async with ValkeyProxy(url) as proxy:
        store = client(proxy.url, max_size=SIZE, min_size=SIZE, command_timeout=GIVEN_UP, acquire_timeout=GIVEN_UP)
        async with running(also=[store, store.pool]) as scope:
            opened, pool = await scope.get(store), await scope.get(store.pool)
            assert pool.stats.open == SIZE
            proxy.fall_silent()
            with pytest.raises(Unreachable):
                await opened.echo("1")
            proxy.forget()
            async with asyncio.timeout(30):
                while not await answers(opened):
                    await asyncio.sleep(0.01)
                assert await asyncio.gather(*[opened.echo("2") for _ in range(3 * SIZE)]) == [b"2"] * 3 * SIZE


async def test_a_command_that_blocks_is_not_taken_for_silence(url: str, aside: Redis) -> None:
    """While the server answers when it is asked, nobody is ended; while it answers anyone, it is not asked."""
    loop = asyncio.get_running_loop()

    async def accepted() -> int:
        return (await aside.info("stats"))["total_connections_received"]

    store = client(url, max_size=SIZE, min_size=SIZE)
    async with running(also=[store]) as scope:
        opened = await scope.get(store)
        before = await accepted()
        blocked = [asyncio.create_task(opened.blpop(["patience"], timeout=20)) for _ in range(SIZE - 1)]
        until_then = loop.time() + 2.5
        while loop.time() < until_then:
            assert await opened.echo("1") == b"1"
            await asyncio.sleep(0.01)
        assert await accepted() == before
        blocked.append(asyncio.create_task(opened.blpop(["patience"], timeout=20)))
        await asyncio.sleep(3)
        await aside.rpush("patience", *range(SIZE))
        assert sorted([int((await task)[1]) for task in blocked]) == list(range(SIZE))


async def test_a_server_that_dies_is_told_and_is_back_without_a_restart(
    own_server: Callable[[], AbstractAsyncContextManager[str]],
) -> None:
    """While it is away the browser has a 503; as soon as there is one again, answers."""
    app = FastAPI(lifespan=lifespan)
    address: list[str] = []
    store = client(lambda: address[0], name="store", max_size=SIZE)

    @app.get("/")
    async def relay(store: Annotated[Redis, Depends(store)]) -> int:
        return await store.incr("count")

    async with AsyncExitStack() as stack:
        async with own_server() as url:
            address.append(url)
            browser, pool = await stack.enter_async_context(served(app, store.pool))
            assert (await browser.get("/")).json() == 1
        for _ in range(2):
            refused = await asyncio.gather(*[browser.get("/") for _ in range(20)])
            assert {answer.status_code for answer in refused} == {503}
            assert refused[0].json() == {"detail": "the store does not answer at the moment"}
            async with own_server():
                counted = await asyncio.gather(*[browser.get("/") for _ in range(20)])
                assert sorted(answer.json() for answer in counted) == list(range(1, 21))
        assert pool.stats.in_use == 0


async def test_connections_that_the_server_has_ended_are_replaced(url: str, aside: Redis) -> None:
    """All connections killed between two commands: none of the following fails."""
    store = client(url, max_size=SIZE, options={"client_name": "victim"})
    async with running(also=[store]) as scope:
        opened = await scope.get(store)
        for _ in range(3):
            assert await asyncio.gather(*[opened.echo("1") for _ in range(20)]) == [b"1"] * 20
            victims = await connections(aside, "victim")
            assert len(victims) == SIZE
            for victim in victims:
                await aside.client_kill_filter(_id=victim)


async def test_a_connection_that_was_idle_for_long_is_checked_before_use(url: str) -> None:
    """One that leads nowhere is replaced, without an error; one that was used just now is not asked."""
    async with ValkeyProxy(url) as proxy:
        store = client(proxy.url, max_size=1, check_after=0.05)
        async with running(also=[store, store.pool]) as scope:
            opened = await scope.get(store)
            before = await opened.client_id()
            assert await opened.client_id() == before
            proxy.forget()
            await asyncio.sleep(0.1)
            assert await opened.client_id() != before
            assert (await scope.get(store.pool)).stats.in_use == 0


async def test_a_command_has_a_deadline(url: str) -> None:
    """What takes longer than `command_timeout` is given up, and what comes next has its own answer."""
    store = client(url, max_size=1, command_timeout=0.2)
    async with running(also=[store]) as scope:
        opened = await scope.get(store)
        with pytest.raises(DriverTimeoutError) as caught:
            await opened.blpop(["never"], timeout=0)
        assert isinstance(caught.value, Unreachable)
        assert await opened.echo("1") == b"1"
        with pytest.raises(ResponseError):
            await opened.execute_command("NONSENSE")
        assert await opened.echo("2") == b"2"


async def test_a_server_that_takes_no_connection_is_given_up_in_time(url: str) -> None:
    """Opening a connection is part of the wait for one."""
    async with ValkeyProxy(url) as proxy:
        store = client(proxy.url, max_size=2, acquire_timeout=0.3, command_timeout=GIVEN_UP)
        async with running(also=[store, store.pool]) as scope:
            opened, pool = await scope.get(store), await scope.get(store.pool)
            async with opened.pipeline() as pipeline:
                await pipeline.watch("watched")
                proxy.fall_silent()
                with pytest.raises(DriverTimeoutError, match="a connection was not opened in time"):
                    await opened.echo("1")
                proxy.speak()
            assert await opened.echo("2") == b"2"
            assert pool.stats.in_use == 0


async def test_a_check_that_is_given_up_costs_no_connection(url: str) -> None:
    """The only connection, idle for long and asked in vain, serves the next command once the server answers."""
    async with ValkeyProxy(url) as proxy:
        store = client(proxy.url, max_size=1, acquire_timeout=0.3, check_after=0.05)
        async with running(also=[store]) as scope:
            opened = await scope.get(store)
            for _ in range(3):
                await asyncio.sleep(0.1)
                proxy.fall_silent()
                with pytest.raises(DriverTimeoutError, match="a connection was not opened in time"):
                    await opened.echo("1")
                proxy.speak()
                assert await opened.echo("2") == b"2"


async def test_a_server_that_ends_each_connection_at_once_is_told_plainly() -> None:
    """What fails while a connection is being opened is said once, whoever noticed it."""
    async with ValkeyProxy("unix:///nowhere") as proxy:
        store = client(proxy.url, name="store")
        with pytest.raises(StartFailed) as caught:
            async with running(also=[store]):
                pass
    assert isinstance(caught.value.__cause__, Unreachable)
    assert caught.value.__cause__.message == "the server of pool `store` cannot be used: Connection closed by server."


async def test_a_subscription_that_is_never_closed_is_reported_once(
    url: str, aside: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names pool, request and the lines that led to it; what is left at the close is named and ended."""
    kept = []
    store = client(url, name="store", leak_after=0.1, release_timeout=0.2, options={"client_name": "leak"})
    app = FastAPI(lifespan=lifespan)

    async def forgetful(store: Redis) -> None:
        kept.append(store.pubsub())
        await kept[0].subscribe("news")

    @app.get("/leak")
    async def leak(store: Annotated[Redis, Depends(store)]) -> None:
        await forgetful(store)

    caplog.set_level(logging.WARNING, "tenure")
    async with served(app, store.pool) as (browser, pool):
        assert (await browser.get("/leak")).status_code == 200
        await until(lambda: pool.stats.leaked == 1)
        assert pool.stats.in_use == 1
    said = [record.message for record in caplog.records if " is out for " in record.message]
    assert len(said) == 2  # when it was out for too long, and at the close
    for each in said:
        assert "a connection of pool store is out for" in each
        assert re.search(r"test_valkey.py:\d+ in leak\n  tests/pools/test_valkey.py:\d+ in forgetful$", each)
    async with asyncio.timeout(20):
        while await connections(aside, "leak"):
            await asyncio.sleep(0.01)


async def test_subscriptions_and_scripts_use_the_pool_as_well(url: str, aside: Redis) -> None:
    """What redis-py has beside commands works, and gives its connections back."""
    store = client(url, max_size=2)
    async with running(also=[store, store.pool]) as scope:
        opened, pool = await scope.get(store), await scope.get(store.pool)
        async with opened.pubsub() as news:
            await news.subscribe("headlines")
            assert (await news.get_message(timeout=20))["type"] == "subscribe"
            await aside.publish("headlines", "extra")
            assert (await news.get_message(timeout=20))["data"] == b"extra"
            assert await news.get_message(timeout=0.01) is None
            assert pool.stats.in_use == 1
        double = opened.register_script("return ARGV[1] * 2")
        assert await double(args=[21]) == 42
        await opened.mset({"page:1": "a", "page:2": "b"})
        assert sorted([key async for key in opened.scan_iter(match="page:*")]) == [b"page:1", b"page:2"]
        assert pool.stats.in_use == 0


async def test_the_app_ends_although_a_command_blocks(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A command that is under way at the close is named and ended; who waits for a connection still has none."""
    store = client(url, max_size=1, release_timeout=0.2)
    async with asyncio.timeout(20):
        async with running(also=[store, store.pool]) as scope:
            opened, pool = await scope.get(store), await scope.get(store.pool)
            waiting = asyncio.create_task(opened.blpop(["never"], timeout=0), name="waits for nothing")
            await until(lambda: pool.stats.in_use == 1)
            late = asyncio.create_task(opened.echo("late"))
            await until(lambda: pool.stats.waiting == 1)
        with pytest.raises(DriverConnectionError):
            await waiting
        with pytest.raises(AlreadyClosed):
            await late
        assert pool.stats.open == 0
    assert any("for waits for nothing; it was borrowed at" in record.message for record in caplog.records)


async def test_settings_may_come_from_a_dependency(url: str) -> None:
    """An address, a secret or settings may be what another resource gives; what the declaration says goes before."""

    @scoped("app")
    async def secret() -> SecretStr:
        return SecretStr(url)

    def settings(secret: Annotated[SecretStr, Depends(secret)]) -> PoolSettings:
        return PoolSettings(dsn=secret.get_secret_value(), max_size=9, options={"decode_responses": True})

    configured = client(settings, name="configured", max_size=None, max_connections=9, workers=3)
    plain = client(secret)
    async with running(also=[configured, configured.pool, plain]) as scope:
        assert await (await scope.get(configured)).echo("told") == "told"
        assert (await scope.get(configured.pool)).stats.size == 3
        assert await (await scope.get(plain)).echo("told") == b"told"


@pytest.mark.parametrize(
    ("source", "settings", "cause"),
    [
        ("postgresql://elsewhere", {}, DeclarationError),
        ("valkey://host:port", {}, DeclarationError),
        ("valkey://host", {"options": {"decode": True}}, DeclarationError),
        ("valkey://host", {"max_size": 0}, DeclarationError),
        ("valkey://127.0.0.1:1", {}, Unreachable),
        ("unix:///nowhere", {}, Unreachable),
    ],
)
async def test_what_cannot_be_used_is_refused_at_start(
    source: str, settings: dict[str, object], cause: type[Exception]
) -> None:
    """A wrong address, option or number, and a server that is not there, stop the app."""
    store = client(source, **settings)
    with pytest.raises(StartFailed) as caught:
        async with running(also=[store]):
            pass
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("password", ["secret#1", "secret/1", "secret?1", "1#secret", "[secret]"])
async def test_a_password_that_is_not_encoded_is_not_shown(password: str) -> None:
    """A sign in it makes the address another one: the start says what to do, and nothing of what it is taken for."""
    store = client(lambda: f"valkey://:{password}@127.0.0.1:1/0")
    with pytest.raises(StartFailed) as raised:
        async with running(also=[store]):
            pass
    assert isinstance(raised.value.__cause__, DeclarationError)
    assert "percent-encode `#`, `/`, `?`, `@` and `:` in a password" in str(raised.value)
    assert "secret" not in "".join(format_exception(raised.value))


async def test_a_client_is_overridden_as_any_dependency() -> None:
    """In a test, a double takes its place, and neither the client nor its pool is opened."""

    class Double:
        async def get(self, name: str) -> str:
            return "double"

    store = client("valkey://127.0.0.1:1")
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def relay(store: Annotated[Redis, Depends(store)]) -> str:
        return await store.get("name")

    with override(app, {store: Double}):
        async with served(app, store) as (browser, _):
            assert (await browser.get("/")).json() == "double"


def test_without_redis_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the client without its package says what to install."""

    class Absent:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "redis":
                raise ModuleNotFoundError(name=name)

    for name in list(sys.modules):
        if name.startswith(("redis", "tenure.pools.valkey")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(MissingExtra) as caught:
        importlib.import_module("tenure.pools.valkey")
    assert caught.value.hint == "pip install 'tenure[redis]'"
