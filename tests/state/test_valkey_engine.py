"""Shared state in Valkey: what each call promises, by whatever address, and with many who call."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import trustme

from tenure.errors import DeclarationError, StateFull, StateMismatch, StateUnavailable
from tenure.host import EmbeddedValkey
from tenure.host.valkey import find_server
from tenure.state.engines import LARGEST_VALUE, MISSED
from tenure.state.stores.valkey import ValkeyEngine
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PROJECT = Path(__file__).parents[2]
HOUR = 3600.0
PATIENCE = 20.0
SECRET = "secret"  # noqa: S105 (of a server of our own)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run one server for these tests."""
    place = tempfile.mkdtemp(prefix="tenure-test-")
    with EmbeddedValkey(place) as server:
        yield server.url()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[ValkeyEngine]:
    """Give an engine on an empty server."""
    await command(url, "FLUSHALL")
    async with ValkeyEngine(url, deployment="test", deadline=PATIENCE) as engine:
        yield engine


async def command(url: str, *words: str | int) -> Any:
    """Return what the server answers to a command, over a connection that is not the engine's."""
    async with redis.asyncio.from_url(url) as client:
        return await client.execute_command(*words)


def client(*words: str) -> subprocess.Popen[str]:
    """Start a process that uses shared state."""
    words = (sys.executable, "-m", "tests.state.valkey_client", *words)
    return subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Wait for the end of processes, and give what they said."""
    said = [process.communicate(timeout=50)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


async def until_gone(engine: ValkeyEngine, key: str) -> None:
    """Wait until a value has expired."""
    while await engine.get(key) is not None:
        await asyncio.sleep(0.01)


async def test_a_value_is_kept_until_it_expires_or_is_deleted(engine: ValkeyEngine) -> None:
    """A value is found as it was, in the place of an older one; deleting it says whether there was one."""
    await engine.set("cache:users:1", b"old", ttl=None)
    await engine.set("cache:users:1", b"\x00 \r\n\xff", ttl=HOUR)
    await engine.set("cache:users:2", b"", ttl=0.0001)
    assert await engine.get("cache:users:1") == b"\x00 \r\n\xff"
    await until_gone(engine, "cache:users:2")
    assert [await engine.delete("cache:users:1"), await engine.delete("cache:users:1")] == [True, False]
    assert await engine.get("cache:users:1") is None


async def test_what_is_kept_for_good_stands(engine: ValkeyEngine) -> None:
    """The first value that is kept under a key is not replaced by a later one."""
    await engine.keep("once", b"first")
    await engine.keep("once", b"second")
    assert await engine.kept("once") == b"first"


async def test_the_first_add_sets_the_expiry(url: str, engine: ValkeyEngine) -> None:
    """Adds after the first leave the expiry as it is, and a first one without an expiry sets none."""
    assert [await engine.increment("limit", 2, ttl=HOUR), await engine.increment("limit", -3, ttl=1)] == [2, -1]
    assert await command(url, "TTL", "tenure:test:value:limit") > 60
    assert [await engine.increment("plain", 1, ttl=None), await engine.increment("plain", 1, ttl=1)] == [1, 2]
    assert await command(url, "TTL", "tenure:test:value:plain") == -1
    assert await engine.increment("short", 5, ttl=0.0001) == 5
    await until_gone(engine, "short")
    assert await engine.increment("short", 1, ttl=HOUR) == 1


async def test_a_number_is_read_written_and_deleted_as_a_value(engine: ValkeyEngine) -> None:
    """Its value is its decimal digits; a deleted number begins at 0."""
    await engine.increment("n", 41, ttl=None)
    assert await engine.get("n") == b"41"
    await engine.set("n", b"7", ttl=None)
    assert await engine.increment("n", 1, ttl=None) == 8
    await engine.delete("n")
    assert await engine.increment("n", 1, ttl=None) == 1


@pytest.mark.parametrize("ttl", [None, HOUR])
async def test_a_number_is_exact_to_64_bits_and_never_beyond(engine: ValkeyEngine, ttl: float | None) -> None:
    """The largest number is reached exactly; an add beyond it is refused and changes nothing, as with a text."""
    assert await engine.increment("n", 2**63 - 1, ttl=ttl) == 2**63 - 1
    for by in (1, 2**63, -(2**64)):
        with pytest.raises(StateFull, match="beyond 64 bits"):
            await engine.increment("n", by, ttl=ttl)
    assert await engine.increment("n", -1, ttl=ttl) == 2**63 - 2
    await engine.set("text", b"seven", ttl=None)
    with pytest.raises(StateMismatch, match="not a whole number"):
        await engine.increment("text", 1, ttl=ttl)
    assert await engine.get("text") == b"seven"


async def test_no_add_of_four_processes_is_lost_or_counted_twice(url: str, engine: ValkeyEngine) -> None:
    """Each of four times 500 adds gives a number of its own, and the last is their sum."""
    said = await asyncio.to_thread(lambda: outputs([client("count", url, "500") for _ in range(4)]))
    assert sorted(int(number) for words in said for number in words.split()) == list(range(1, 2001))
    assert await engine.get("count") == b"2000"


async def test_a_lock_has_one_holder(engine: ValkeyEngine) -> None:
    """Who has a lock keeps it by renewing; another gets it when it was given back or its lease has run out."""
    first = await engine.acquire("orders", holder="a", lease=HOUR)
    assert await engine.acquire("orders", holder="b", lease=HOUR) is None
    assert [await engine.renew("orders", holder=holder, lease=HOUR) for holder in "ab"] == [True, False]
    await engine.release("orders", holder="b")
    assert await engine.acquire("orders", holder="b", lease=HOUR) is None
    await engine.release("orders", holder="a")
    second = await engine.acquire("orders", holder="b", lease=0.0001)
    assert first
    assert second
    while (third := await engine.acquire("orders", holder="c", lease=HOUR)) is None:
        await asyncio.sleep(0.01)
    assert first < second < third
    assert not await engine.renew("orders", holder="b", lease=HOUR)


async def test_a_holder_that_asks_again_has_the_lock(engine: ValkeyEngine) -> None:
    """Who did not hear that it had got the lock may ask again, and gets a token above the one that was lost."""
    first = await engine.acquire("orders", holder="a", lease=HOUR)
    again = await engine.acquire("orders", holder="a", lease=HOUR)
    assert first
    assert again
    assert first < again


async def test_tokens_rise_over_all_locks_and_after_everything_was_forgotten(url: str, engine: ValkeyEngine) -> None:
    """Each token is above all before, whatever the lock; also when the server was wiped; and a lock leaves nothing."""
    tokens = []
    for turn in range(100):
        tokens.append(await engine.acquire(f"lock-{turn}", holder="a", lease=HOUR))
        await engine.release(f"lock-{turn}", holder="a")
        if turn == 50:
            assert await command(url, "DBSIZE") == 1
            await command(url, "FLUSHALL")
    assert tokens == sorted(set(tokens))


async def test_four_processes_never_hold_a_lock_at_once(url: str, engine: ValkeyEngine, tmp_path: Path) -> None:
    """In 200 turns of four processes nobody meets another, and the tokens rise from turn to turn."""
    players = [("take_turns", url, str(tmp_path), name, "50") for name in "abcd"]
    await asyncio.to_thread(lambda: outputs([client(*player) for player in players]))
    tokens = [int(token) for token in (tmp_path / "tokens").read_text().split()]
    assert len(tokens) == 200
    assert tokens == sorted(set(tokens))


async def test_all_subscribers_get_all_messages_in_order(url: str, engine: ValkeyEngine) -> None:
    """Each subscriber of a topic gets what is published from its enter on, in whichever process; others get nothing."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(ValkeyEngine(url, deployment="test", deadline=PATIENCE))
        stranger = await stack.enter_async_context(ValkeyEngine(url, deployment="stranger", deadline=PATIENCE))
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


async def test_who_comes_to_others_gets_nothing_that_was_published_before(url: str, engine: ValkeyEngine) -> None:
    """A message that is still on its way to those who were there is not for one who enters after it was published."""
    async with engine.subscribe("news") as first:
        (channel,) = await command(url, "PUBSUB", "CHANNELS")
        with redis.from_url(url) as blocking:  # so that the event loop has no turn to read the message in
            blocking.publish(channel, b"before")
        async with engine.subscribe("news") as late:
            await engine.publish("news", b"after")
            assert await anext(late) == b"after"
        assert [await anext(first), await anext(first)] == [b"before", b"after"]


async def test_a_topic_can_be_left_and_entered_again_at_any_time(engine: ValkeyEngine) -> None:
    """However enters and leaves of a topic follow each other, who is inside gets what is published."""
    for number in range(50):
        entering = [asyncio.create_task(anext_of(engine, "news")) for _ in range(3)]
        await asyncio.sleep(0)
        entering[0].cancel()
        async with engine.subscribe("news") as messages:
            await engine.publish("news", b"%d" % number)
            assert await anext(messages) == b"%d" % number
        for task in entering:
            task.cancel()
        await asyncio.wait(entering)


async def anext_of(engine: ValkeyEngine, topic: str) -> object:
    """Enter a topic, and wait for a message."""
    async with engine.subscribe(topic) as messages:
        return await anext(messages)


async def test_a_slow_subscriber_is_told_that_it_missed_the_oldest(engine: ValkeyEngine) -> None:
    """Of more messages than are kept for it the newest are there, after `MISSED`; another subscriber is not held up."""
    async with engine.subscribe("news") as slow, engine.subscribe("news") as quick:
        for number in range(1500):
            await engine.publish("news", b"%d" % number)
            assert await anext(quick) == b"%d" % number
        assert await anext(slow) is MISSED
        kept = [await anext(slow) for _ in range(1000)]
        assert kept == [b"%d" % number for number in range(500, 1500)]


async def test_large_messages_are_not_kept_without_bound(engine: ValkeyEngine) -> None:
    """A subscriber that takes nothing has at most 16 MiB waiting for it."""
    async with engine.subscribe("news") as slow, engine.subscribe("news") as quick:
        for number in range(20):
            await engine.publish("news", bytes([number]) * LARGEST_VALUE)
            await anext(quick)
        assert await anext(slow) is MISSED
        assert [message[0] async for message in first_of(slow, 16)] == list(range(4, 20))


async def first_of(messages: AsyncIterator[Any], count: int) -> AsyncIterator[bytes]:
    """Give the first messages of some."""
    for _ in range(count):
        yield await anext(messages)


async def test_an_iteration_ends_when_its_engine_is_closed(url: str) -> None:
    """What was kept comes first; then it ends, and a new call is refused."""
    async with AsyncExitStack() as stack:
        engine = ValkeyEngine(url, deployment="test", deadline=PATIENCE)
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
            await anext_of(engine, "news")


async def test_callers_share_one_connection_and_none_gets_the_answer_of_another(url: str, engine: ValkeyEngine) -> None:
    """Among hundreds of calls at once, a third of them cancelled, each gets its own answer, over one connection."""
    for number in range(300):
        await engine.set(f"v{number}", b"%d" % number * (number + 1), ttl=None)
    async with AsyncExitStack() as stack:
        for topic in range(20):
            await stack.enter_async_context(engine.subscribe(f"topic-{topic}"))
        calls = [asyncio.create_task(engine.get(f"v{number}")) for number in range(300)]
        await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[1::3] == [b"%d" % number * (number + 1) for number in range(1, 300, 3)]
        assert answers[2::3] == [b"%d" % number * (number + 1) for number in range(2, 300, 3)]
        clients = [entry for entry in await command(url, "CLIENT LIST") if entry["cmd"] != "client|list"]
        assert len(clients) == 2


async def test_the_largest_value_makes_the_round(engine: ValkeyEngine) -> None:
    """A value of as many bytes as a handle allows comes back whole."""
    value = bytes(range(256)) * (LARGEST_VALUE // 256)
    await engine.set("large", value, ttl=HOUR)
    assert await engine.get("large") == value


async def test_a_full_server_drops_values_and_never_a_lock_a_number_or_what_is_kept_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that were written after it was full are there; only older values are gone, and nothing else is."""
    monkeypatch.setenv("TENURE_VALKEY_MEMORY", "4mb")
    async with (
        EmbeddedValkey(tmp_path) as server,
        ValkeyEngine(server.url(), deployment="test", deadline=PATIENCE) as engine,
    ):
        await engine.keep("once", b"42")
        for number in range(200):
            assert await engine.acquire(f"lock-{number}", holder="a", lease=HOUR)
            assert await engine.increment(f"limit-{number}", 1, ttl=HOUR) == 1
            await engine.set(f"value-{number}", b"x" * 50_000, ttl=HOUR)
            assert await engine.get(f"value-{number}") is not None
        kept = [number for number in range(200) if await engine.get(f"value-{number}")]
        assert 10 < len(kept) < 100
        assert (await engine.kept("once"), await engine.kept("other")) == (b"42", None)
        for number in range(200):
            assert await engine.renew(f"lock-{number}", holder="a", lease=HOUR)
            assert await engine.increment(f"limit-{number}", 1, ttl=HOUR) == 2


async def test_a_server_that_is_full_of_what_cannot_be_dropped_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's data are not dropped either: the write is refused, and says what to set."""
    monkeypatch.setenv("TENURE_VALKEY_MEMORY", "3mb")
    async with (
        EmbeddedValkey(tmp_path) as server,
        ValkeyEngine(server.url(), deployment="test", deadline=PATIENCE) as engine,
    ):
        await command(server.url(), "CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StateFull, match="`maxmemory`, or `TENURE_VALKEY_MEMORY`"):
            await engine.acquire("lock", holder="a", lease=HOUR)
        assert await engine.get("anything") is None


async def test_a_server_that_would_evict_locks_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its policy is named in a warning, with the one to set."""
    async with EmbeddedValkey(tmp_path) as server:
        await command(server.url(), "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        async with ValkeyEngine(server.url(), deployment="test", deadline=PATIENCE):
            assert "evicts locks and limits when it is full (volatile-lru): give it the policy" in caplog.text


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[int]:
    """Run a server on TCP that wants a password; its port."""
    port = free_port()
    words = [find_server(), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", SECRET, "--save", ""]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(words, cwd=tmp_path, stdout=log) as server:
        with redis.Redis(port=port, password=SECRET) as prober:
            while True:
                try:
                    prober.ping()
                    break
                except redis.ConnectionError:
                    assert server.poll() is None
        yield port
        server.terminate()


@pytest.mark.parametrize("scheme", ["valkey", "redis"])
async def test_a_server_is_reached_over_the_network(guarded: int, scheme: str) -> None:
    """Its address has host, port, password and database, by either name."""
    async with ValkeyEngine(
        f"{scheme}://:{SECRET}@localhost:{guarded}/3", deployment="test", deadline=PATIENCE
    ) as engine:
        await engine.set("word", b"kept", ttl=None)
        async with engine.subscribe("news") as messages:
            await engine.publish("news", b"1")
            assert await anext(messages) == b"1"
    async with redis.asyncio.Redis(port=guarded, password=SECRET, db=3) as direct:
        assert await direct.get("tenure:test:value:word") == b"kept"


@pytest.mark.parametrize("scheme", ["valkeys", "rediss"])
async def test_a_server_is_reached_with_tls(guarded: int, scheme: str, tmp_path: Path) -> None:
    """A certificate that the address trusts is accepted, any other refused."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    async with AsyncExitStack() as stack:
        proxy = await asyncio.start_server(lambda *ends: forward(guarded, *ends), "127.0.0.1", 0, ssl=context)
        await stack.enter_async_context(proxy)
        address = f"{scheme}://:{SECRET}@localhost:{proxy.sockets[0].getsockname()[1]}?ssl_ca_certs={tmp_path}"
        async with ValkeyEngine(f"{address}/ca.pem", deployment="test", deadline=PATIENCE) as engine:
            assert await engine.increment("n", 1, ttl=None) == 1
        with pytest.raises(StateUnavailable, match="certificate verify failed"):
            await ValkeyEngine(f"{address}/other.pem", deployment="test").__aenter__()


async def forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on between two ends until one of them closes."""
    backward, onward = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    await asyncio.gather(pump(reader, onward), pump(backward, writer))


async def test_a_wrong_password_is_said_and_no_password_is_shown(guarded: int) -> None:
    """The start fails with the server's reason; the error has host and port, and not the password."""
    with pytest.raises(StateUnavailable) as caught:
        await ValkeyEngine(f"valkey://:guess@localhost:{guarded}", deployment="test").__aenter__()
    assert f"the Valkey at localhost:{guarded} cannot be used: " in caught.value.message
    assert "password" in caught.value.message
    assert "guess" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["postgresql://localhost", "localhost:6379", "", "redis://localhost:port", "valkey://localhost?colour=blue"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """The error shows how one is written."""
    with pytest.raises(DeclarationError, match="write it like `valkey://user:password@host:6379/0`"):
        ValkeyEngine(address, deployment="test")


def test_a_missing_client_is_said_with_its_cure() -> None:
    """Without redis-py the import says what to install."""
    without = "import sys; sys.modules['redis'] = None; import tenure.state.stores.valkey"
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", without], stderr=subprocess.PIPE, text=True)
        )
        assert "hint: pip install 'tenure[state]'" in process.communicate()[1]
