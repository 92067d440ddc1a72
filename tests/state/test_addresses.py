"""Addresses with passwords in them: which are read as they were meant."""

from __future__ import annotations

import re

import pytest

from tenure.errors import DeclarationError
from tenure.state.stores.addresses import is_misread
from tenure.state.stores.postgres import PostgresEngine
from tenure.state.stores.totals_postgres import PostgresLedger
from tenure.state.stores.totals_valkey import ValkeyLedger
from tenure.state.stores.valkey import ValkeyEngine

CURE = re.escape("percent-encode `#`, `/`, `?`, `@` and `:` in a password")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:password@host:5432/database",
        "postgresql://user:p%23%2F%3F%40%3A@host/database",
        "postgresql://user:a:b@one:5432,two:5433/database?target_session_attrs=any",
        "postgresql://postgres@/database?host=/tmp/of@me&port=5433",
        "postgresql:///database?user=a@b&password=c@d",
        "postgresql://[::1]:5432/database",
        "postgresql://%2Frun%2Fpostgresql/database",
        "postgresql://",
        "",
        "valkey://localhost",
        "valkey://:pass@word@host:6379/0",
        "valkeys://user:password@host?ssl_ca_certs=/etc/of@me.pem",
        "unix:///run/valkey@1.socket",
        "unix://user:password@/run/valkey.socket?db=1",
    ],
)
def test_what_is_read_as_it_was_meant(address: str) -> None:
    """Neither lists of hosts nor sockets, options or a `:` in a password are mistaken for a mistake."""
    assert not is_misread(address)


@pytest.mark.parametrize(
    "password", ["secret#1", "secret/1", "secret?1", "[secret]", "1#secret", "1/secret", "1?secret"]
)
@pytest.mark.parametrize("kind", [PostgresEngine, PostgresLedger, ValkeyEngine, ValkeyLedger])
def test_a_password_that_is_not_encoded_is_not_shown(kind: type, password: str) -> None:
    """A sign in it makes the address another one: the error says what to do, and has no part of it."""
    scheme = "postgresql" if kind in {PostgresEngine, PostgresLedger} else "valkey"
    with pytest.raises(DeclarationError, match=CURE) as raised:
        kind(f"{scheme}://user:{password}@host/0", deployment="test")
    assert raised.value.message == "the address of the engine of shared state cannot be read"
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("password", ["1@secret", "secret@1:2", "secret@1/2"])
@pytest.mark.parametrize("kind", [PostgresEngine, PostgresLedger])
def test_an_at_sign_in_a_password_is_refused_where_it_ends_it(kind: type, password: str) -> None:
    """By the rest of the password asyncpg would look for a host."""
    with pytest.raises(DeclarationError, match=CURE):
        kind(f"postgresql://user:{password}@host/database", deployment="test")


@pytest.mark.parametrize("address", ["user:secret@localhost:6379", "valkeyy://user:secret@localhost"])
def test_the_cause_of_a_refusal_does_not_repeat_an_address(address: str) -> None:
    """What a log shows as the cause has no password either."""
    with pytest.raises(DeclarationError) as raised:
        ValkeyEngine(address, deployment="test")
    assert "secret" not in f"{raised.value}{raised.value.__cause__}"
