"""Shared state in PostgreSQL: what each call promises, by address or over the app's pool, and with many who call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tenure.errors import DeclarationError, StateMismatch, StateUnavailable
from tenure.state.engines import MISSED
from tenure.state.stores.notifications import channel_of
from tenure.state.stores.postgres import CONNECTIONS, PostgresEngine
from tenure.state.stores.statements import SWEPT_AT_ONCE, VERSION
from tests.faults.conftest import dsn  # noqa: F401 (a fixture)
from tests.state.test_valkey_engine import (  # noqa: F401 (what holds for every engine, here with the fixture below)
    test_a_holder_that_asks_again_has_the_lock,
    test_a_lock_has_one_holder,
    test_a_number_is_exact_to_64_bits_and_never_beyond,
    test_a_number_is_read_written_and_deleted_as_a_value,
    test_a_slow_subscriber_is_told_that_it_missed_the_oldest,
    test_a_topic_can_be_left_and_entered_again_at_any_time,
    test_a_value_is_kept_until_it_expires_or_is_deleted,
    test_large_messages_are_not_kept_without_bound,
    test_the_largest_value_makes_the_round,
    test_what_is_kept_for_good_stands,
    until_gone,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROJECT = Path(__file__).parents[2]
HOUR = 3600.0
PATIENCE = 20.0


@pytest.fixture
async def engine(dsn: str) -> AsyncIterator[PostgresEngine]:  # noqa: F811 (the fixture)
    """Give an engine on a server that keeps nothing."""
    await ask(dsn, "DROP SCHEMA IF EXISTS tenure CASCADE")
    async with PostgresEngine(dsn, deployment="test", deadline=PATIENCE) as engine:
        yield engine


async def ask(dsn: str, question: str) -> Any:  # noqa: F811
    """Return the server's answer, over a connection that is not the engine's."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def in_processes(*players: tuple[str, ...]) -> list[str]:
    """Run processes that use shared state, to their end; what they said."""
    words = (sys.executable, "-m", "tests.state.postgres_client")
    processes = [
        await asyncio.create_subprocess_exec(*words, *player, cwd=PROJECT, stdout=subprocess.PIPE) for player in players
    ]
    said = [(await process.communicate())[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


async def test_the_first_add_sets_the_expiry(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """Adds after the first leave the expiry as it is, and a first one without an expiry sets none."""
    assert [await engine.increment("limit", 2, ttl=HOUR), await engine.increment("limit", -3, ttl=1)] == [2, -1]
    left = "SELECT extract(epoch FROM expires - now()) FROM tenure.state_values WHERE key = "
    assert await ask(dsn, f"{left}'limit'") > 60
    assert [await engine.increment("plain", 1, ttl=None), await engine.increment("plain", 1, ttl=1)] == [1, 2]
    assert await ask(dsn, f"{left}'plain'") is None
    assert await engine.increment("short", 5, ttl=0.0001) == 5
    await until_gone(engine, "short")  # type: ignore[arg-type]
    assert await engine.increment("short", 1, ttl=HOUR) == 1


async def test_a_text_that_has_expired_gives_way_to_a_number(engine: PostgresEngine) -> None:
    """An add to what is no longer there begins at 0, whatever it was."""
    await engine.set("key", b"text", ttl=0.0001)
    await until_gone(engine, "key")  # type: ignore[arg-type]
    assert await engine.increment("key", 3, ttl=HOUR) == 3
    assert await engine.get("key") == b"3"


@pytest.mark.parametrize("value", [b"007", b"-0", b"+1", b" 1", b"1.0", b"9223372036854775808", b"9" * 4000, b"1\n"])
async def test_what_only_looks_like_a_number_stays_as_it_is(engine: PostgresEngine, value: bytes) -> None:
    """What another spelling than a number's own would change is a text: it comes back as it was, and takes no add."""
    await engine.set("key", value, ttl=None)
    with pytest.raises(StateMismatch, match="not a whole number"):
        await engine.increment("key", 1, ttl=None)
    assert await engine.get("key") == value


async def test_a_key_may_have_any_character(engine: PostgresEngine) -> None:
    """Keys and names of locks that differ in a character that PostgreSQL's texts do not have are two."""
    for number, key in enumerate(("a\0b", "ab", "ä'\\$1", "x" * 512)):
        await engine.set(key, b"%d!" % number, ttl=HOUR)
        assert await engine.acquire(key, holder=key[:1], lease=HOUR)
        assert await engine.get(key) == b"%d!" % number


async def test_no_add_of_four_processes_is_lost_or_counted_twice(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """Each of four times 250 adds gives a number of its own, and the last is their sum."""
    said = await in_processes(*[("count", dsn, "250")] * 4)
    assert sorted(int(number) for words in said for number in words.split()) == list(range(1, 1001))
    assert await engine.get("count") == b"1000"


async def test_tokens_rise_over_all_locks_and_after_everything_was_forgotten(
    dsn: str,  # noqa: F811
    engine: PostgresEngine,
) -> None:
    """Each token is above all before, whatever the lock; also after a wipe; and a lock leaves nothing."""
    tokens = []
    for turn in range(60):
        tokens.append(await engine.acquire(f"lock-{turn}", holder="a", lease=HOUR))
        await engine.release(f"lock-{turn}", holder="a")
        if turn == 30:
            assert await ask(dsn, "SELECT count(*) FROM tenure.state_locks") == 0
            await ask(dsn, "DROP SCHEMA tenure CASCADE")
    assert tokens == sorted(set(tokens))


async def test_four_processes_never_hold_a_lock_at_once(dsn: str, engine: PostgresEngine, tmp_path: Path) -> None:  # noqa: F811
    """In 100 turns of four processes nobody meets another, and the tokens rise from turn to turn."""
    await in_processes(*[("take_turns", dsn, str(tmp_path), name, "25") for name in "abcd"])
    tokens = [int(token) for token in (tmp_path / "tokens").read_text().split()]
    assert len(tokens) == 100
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_a_strict_database_changes_nothing(dsn: str, engine: PostgresEngine, isolation: str) -> None:  # noqa: F811
    """Where transactions see one moment by default, those that are taken back for another are done again."""
    async with (
        asyncpg.create_pool(
            dsn, min_size=0, max_size=8, server_settings={"default_transaction_isolation": isolation}
        ) as pool,
        PostgresEngine(deployment="test", pool=pool, deadline=PATIENCE) as strict,
    ):
        numbers = await asyncio.gather(*(strict.increment("count", 1, ttl=None) for _ in range(100)))
        assert sorted(numbers) == list(range(1, 101))
        tokens = await asyncio.gather(*(strict.acquire(f"{name}", holder="a", lease=HOUR) for name in range(50)))
        assert len(set(tokens)) == 50


async def test_all_subscribers_get_all_messages_in_order(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """Each subscriber of a topic gets what is published from its enter on, in whichever process; others get nothing."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(PostgresEngine(dsn, deployment="test", deadline=PATIENCE))
        stranger = await stack.enter_async_context(PostgresEngine(dsn, deployment="stranger", deadline=PATIENCE))
        first = await stack.enter_async_context(engine.subscribe("news"))
        second = await stack.enter_async_context(other.subscribe("news"))
        await engine.publish("olds", b"to nobody")
        await stranger.publish("news", b"of another deployment")
        await engine.publish("news", b"1")
        late = await stack.enter_async_context(engine.subscribe("news"))
        for number in range(2, 11):
            await other.publish("news", b"%d" % number)
        for messages, expected in ((first, range(1, 11)), (second, range(1, 11)), (late, range(2, 11))):
            assert [await anext(messages) for _ in expected] == [b"%d" % number for number in expected]


async def test_messages_of_all_sizes_keep_their_order(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """Two who publish at once, what takes one notification and what takes many, come whole and each in its order."""
    sizes = (0, 1, 5760, 5761, 11520, 100_000, 7, 1_000_000, 3)
    async with (
        PostgresEngine(dsn, deployment="test", deadline=PATIENCE) as other,
        engine.subscribe("news") as messages,
    ):

        async def publish_all(by: PostgresEngine, mark: bytes) -> None:
            for size in sizes:
                await by.publish("news", mark * (size + 1))

        await asyncio.gather(publish_all(engine, b"a"), publish_all(other, b"b"))
        found = [await anext(messages) for _ in range(2 * len(sizes))]
    for mark in (b"a", b"b"):
        ours = [message for message in found if isinstance(message, bytes) and message.strip(mark) == b""]
        assert [len(message) - 1 for message in ours] == list(sizes)


async def test_a_stranger_on_the_channel_is_a_message_missed(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """What is no part of a message, or not the next part, is told of as lost; the next message comes whole."""
    channel = channel_of("test", "news")
    async with engine.subscribe("news") as messages:
        for notification in ("hello", "2/2:aGk=", "1/2:aGk=", "1/1:aGk=", "1/1:?"):
            await ask(dsn, f"SELECT pg_notify('{channel}', '{notification}')")
        await engine.publish("news", b"after")
        assert [await anext(messages) for _ in range(2)] == [MISSED, b"after"]


async def test_an_iteration_ends_when_its_engine_is_closed(dsn: str) -> None:  # noqa: F811
    """What was kept comes first; then it ends, and a new call is refused."""
    async with AsyncExitStack() as stack:
        engine = PostgresEngine(dsn, deployment="test", deadline=PATIENCE)
        await stack.enter_async_context(engine)
        messages = await stack.enter_async_context(engine.subscribe("news"))
        await engine.publish("news", b"last")
        assert await anext(messages) == b"last"
        waiting = asyncio.create_task(anext(messages, "the end"))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await engine.close()
        assert await waiting == "the end"
        with pytest.raises(StateUnavailable, match="closed"):
            await engine.get("anything")
        with pytest.raises(StateUnavailable, match="closed"):
            await engine.subscribe("news").__aenter__()


async def test_among_cancelled_calls_each_gets_its_own_answer(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """Of hundreds of calls at once, a third of them cancelled, each gets its own answer, over few connections."""
    for number in range(150):
        await engine.set(f"v{number}", b"%d!" % number * (number + 1), ttl=None)
    async with AsyncExitStack() as stack:
        for topic in range(20):
            await stack.enter_async_context(engine.subscribe(f"topic-{topic}"))
        calls = [asyncio.create_task(engine.get(f"v{number}")) for number in range(150)]
        await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for first in (1, 2):
            assert answers[first::3] == [b"%d!" % number * (number + 1) for number in range(first, 150, 3)]
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert await ask(dsn, others) <= CONNECTIONS + 1


async def test_what_has_expired_is_swept_in_batches(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """Values and locks that nobody asks for again are gone after a time; what has not expired stays."""
    await engine.set("kept", b"kept", ttl=HOUR)
    await engine.set("forever", b"kept", ttl=None)
    await engine.acquire("kept", holder="a", lease=HOUR)
    many = 2 * SWEPT_AT_ONCE + 1
    gone = f"SELECT 'gone', n::text::bytea, '', now() FROM generate_series(1, {many}) AS n"  # noqa: S608 (of our own)
    await ask(dsn, f"INSERT INTO tenure.state_values (deployment, key, value, expires) {gone}")
    await ask(dsn, f"INSERT INTO tenure.state_locks (deployment, name, holder, expires) {gone}")
    rows = "SELECT (SELECT count(*) FROM tenure.state_values) || ' ' || (SELECT count(*) FROM tenure.state_locks)"
    async with PostgresEngine(dsn, deployment="test", deadline=PATIENCE), asyncio.timeout(PATIENCE):
        while await ask(dsn, rows) != "2 1":
            await asyncio.sleep(0.02)
    assert await engine.get("kept") == b"kept"


async def test_many_that_start_at_once_make_the_tables_once(dsn: str) -> None:  # noqa: F811
    """On a server that has nothing, eight engines at once all start."""
    for _ in range(3):
        await ask(dsn, "DROP SCHEMA IF EXISTS tenure CASCADE")
        async with AsyncExitStack() as stack:
            engines = [PostgresEngine(dsn, deployment="test", deadline=PATIENCE) for _ in range(8)]
            await asyncio.gather(*map(stack.enter_async_context, engines))
            assert sorted(await asyncio.gather(*(engine.increment("n", 1, ttl=None) for engine in engines))) == [
                *range(1, 9)
            ]


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_many_that_find_the_tables_gone_make_them_once(dsn: str, isolation: str) -> None:  # noqa: F811
    """When all is dropped under eight connections that know it, each of their calls is answered."""
    strict = {"default_transaction_isolation": isolation}
    async with (
        asyncpg.create_pool(dsn, min_size=8, max_size=8, server_settings=strict) as pool,
        PostgresEngine(deployment="test", pool=pool, deadline=PATIENCE) as engine,
    ):
        for turn in range(5):
            locks = [engine.acquire(f"{turn}-{name}", holder="a", lease=HOUR) for name in range(8)]
            assert len(set(await asyncio.gather(*locks)) - {None}) == 8
            await ask(dsn, "DROP SCHEMA tenure CASCADE")


async def test_the_tables_of_another_version_are_refused(dsn: str, engine: PostgresEngine) -> None:  # noqa: F811
    """A start says which version there is, and leaves it."""
    await ask(dsn, "UPDATE tenure.versions SET version = version + 1 WHERE tables = 'state'")
    with pytest.raises(StateMismatch, match=f"of version {VERSION + 1}, and this tenure knows version {VERSION}"):
        await PostgresEngine(dsn, deployment="test", deadline=PATIENCE).__aenter__()
    await ask(dsn, "DROP SCHEMA tenure CASCADE")


async def test_a_user_who_may_make_no_tables_is_told_what_to_allow(dsn: str) -> None:  # noqa: F811
    """Its start names the schema; with one of its own it starts."""
    await ask(dsn, "DROP SCHEMA IF EXISTS tenure CASCADE")
    await ask(dsn, "CREATE ROLE guest LOGIN")
    try:
        guest = PostgresEngine(dsn.replace("postgres@", "guest@"), deployment="test", deadline=PATIENCE)
        with pytest.raises(StateUnavailable, match="permission denied") as caught:
            await guest.__aenter__()
        assert "CREATE SCHEMA tenure AUTHORIZATION" in str(caught.value)
        await ask(dsn, "CREATE SCHEMA tenure AUTHORIZATION guest")
        async with PostgresEngine(dsn.replace("postgres@", "guest@"), deployment="test", deadline=PATIENCE) as allowed:
            assert await allowed.increment("n", 1, ttl=None) == 1
    finally:
        await ask(dsn, "DROP SCHEMA tenure CASCADE")
        await ask(dsn, "DROP ROLE guest")


async def test_the_apps_pool_is_used_and_stays_the_apps(dsn: str) -> None:  # noqa: F811
    """Calls go through it, topics too if there is no address; it is neither filled up nor closed."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        async with PostgresEngine(deployment="test", pool=pool, deadline=PATIENCE) as engine:
            await engine.set("key", b"value", ttl=HOUR)
            async with engine.subscribe("news") as messages, engine.subscribe("others"):
                await engine.publish("news", b"1")
                assert await anext(messages) == b"1"
                assert await engine.get("key") == b"value"
                assert pool.get_size() - pool.get_idle_size() == 1
        assert await pool.fetchval("SELECT 1") == 1
        assert pool.get_size() == pool.get_idle_size()


async def test_a_pool_whose_connections_are_all_in_use_is_said(dsn: str) -> None:  # noqa: F811
    """A call waits for one as long as its deadline, and then says so; subscribers do not need one."""
    await ask(dsn, "DROP SCHEMA IF EXISTS tenure CASCADE")
    async with (
        asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool,
        PostgresEngine(dsn, deployment="test", pool=pool, deadline=0.5) as engine,
    ):
        async with pool.acquire(), engine.subscribe("news"):
            with pytest.raises(StateUnavailable, match="none of the 1 connections of its pool was free"):
                await engine.get("key")
        assert await engine.get("key") is None


async def test_what_the_server_refuses_is_said_without_the_password(dsn: str) -> None:  # noqa: F811
    """The start fails with the server's reason; the error has host and database, and not the password."""
    address = dsn.replace("postgres@/postgres", "postgres:secret@/nothing")
    with pytest.raises(StateUnavailable, match='/nothing cannot be used: database "nothing" does not exist') as caught:
        await PostgresEngine(address, deployment="test").__aenter__()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["valkey://localhost", "localhost:5432", "", "postgresql+asyncpg://localhost", None]
)
def test_what_is_no_address_is_refused(address: str | None) -> None:
    """The error shows how one is written."""
    with pytest.raises(DeclarationError, match="write it like `postgresql://user:password@host:5432/database`"):
        PostgresEngine(address, deployment="test")


@pytest.mark.parametrize("address", ["postgresql://localhost:port/roster", "postgresql://localhost?sslmode=maybe"])
async def test_what_asyncpg_does_not_know_of_an_address_is_refused(address: str) -> None:
    """The start says what it is, and shows how an address is written."""
    with pytest.raises(DeclarationError, match="write it like `postgresql://user:password@host:5432/database`"):
        await PostgresEngine(address, deployment="test").__aenter__()


def test_a_missing_client_is_said_with_its_cure() -> None:
    """Without asyncpg the import says what to install."""
    without = "import sys; sys.modules['asyncpg'] = None; import tenure.state.stores.postgres"
    process = subprocess.run([sys.executable, "-c", without], stderr=subprocess.PIPE, text=True, check=False)
    assert "hint: pip install 'tenure[asyncpg]'" in process.stderr


async def test_a_pooler_that_gives_other_sessions_is_served(engine: PostgresEngine) -> None:
    """Where a statement that was prepared is not known, as behind PgBouncer, it is asked anew, and none is prepared."""
    for _ in range(2):
        await engine.set("a", b"one", ttl=None)
        assert await engine.get("a") == b"one"
        assert engine._pool is not None  # noqa: SLF001 (a session of its own is what the pooler would exchange)
        async with engine._pool.acquire() as session:  # noqa: SLF001 (likewise)
            await session.execute("DEALLOCATE ALL")
    assert await asyncio.gather(*(engine.get("a") for _ in range(8))) == [b"one"] * 8
    token = await engine.acquire("lock", holder="me", lease=HOUR)
    assert token is not None
    assert await engine.renew("lock", holder="me", lease=HOUR)
    await engine.release("lock", holder="me")
    assert await engine.acquire("lock", holder="another", lease=HOUR) is not None
